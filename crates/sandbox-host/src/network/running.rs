//! The network of one VM, from its plan to its end.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blockcow::Traffic;
use engine::NetworkSpec;
use netstack::device::Device;
use netstack::tls::Authority;
use netstack::{
    Config, GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, Meter, Observer, PREFIX_V4, PREFIX_V6,
    Stack,
};
use protocol::guest::v1 as guest_v1;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::control::Control;
use super::event;
use super::report::Reporter;
use crate::error::{BootCause, Error, chain};
use crate::lane::{Journal, boot_failure};
use crate::limits::{MAX_POLICY_DEADLINE_MS, NETWORK_END};
use crate::request::NetworkPlan;

/// Hardware address of the guest: locally administered, beside that of the gateway.
const GUEST_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x00, 0x00, 0x15];
/// The largest packet of the link: the largest there is, in whole words.
const MTU: u16 = 65_520;
/// netstack's own deadline comes after each of ours, which are told.
const MARGIN: Duration = Duration::from_secs(60);

/// A running network. Dropping it ends it; [`Network::end`] also waits.
pub struct Network {
    control: Arc<Control>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    in_guest: guest_v1::Network,
    placeholders: Vec<(String, String)>,
    meter: Meter,
}

impl Network {
    /// Starts a network. What is returned beside it is for the engine.
    ///
    /// # Errors
    /// [`Error`] names the option that is wrong, or what the system refused.
    pub async fn start(
        plan: NetworkPlan,
        registry: &Registry,
        journal: &Arc<Journal>,
    ) -> Result<(Self, NetworkSpec), Error> {
        let failed =
            |error: &dyn std::error::Error| boot_failure(journal, BootCause::Network(chain(error)));
        let authority = Authority::new(SystemTime::now()).map_err(|error| failed(&error))?;
        let placeholder = |secret: &netstack::http::Secret| {
            (secret.name().to_owned(), secret.placeholder().to_owned())
        };
        let placeholders = plan.secrets.iter().map(placeholder).collect();
        let in_guest = in_guest(&authority);
        let reporter = Reporter::new(Arc::clone(journal));
        let control = Arc::new(Control::new(authority, plan.secrets, Arc::clone(&reporter)));
        control.set_policy("network.policy", plan.policy, registry).await?;
        let (frames, ours) = UnixStream::pair().map_err(|error| failed(&error))?;
        let device = Device::frame_socket(ours).map_err(|error| failed(&error))?;
        let config = Config {
            guest_mac: Some(GUEST_MAC),
            mtu: MTU,
            thread_begins: || confine::thread(confine::Role::Network),
            policy_deadline: Duration::from_millis(MAX_POLICY_DEADLINE_MS.into()) + MARGIN,
            ..Config::default()
        };
        let observer = Observer::new(move |told| {
            if let Some(event) = event::of_flow(told) {
                reporter.tell(event);
            }
        });
        let stack = Stack::start(config, device, control.policy(), observer, &Handle::current());
        let stack = stack.map_err(|error| failed(&error))?;
        control.lead_to(stack.guest_ports());
        let meter = stack.meter();
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch_over(stack, stop.clone(), Arc::clone(journal)));
        let network = Self { control, stop, task: Some(task), in_guest, placeholders, meter };
        Ok((network, NetworkSpec { frames, mac: GUEST_MAC, mtu: MTU }))
    }

    /// How the guest's init is to set its device up.
    pub fn in_guest(&self) -> guest_v1::Network {
        self.in_guest.clone()
    }

    /// What the guest's environment has in place of secrets.
    pub fn placeholders(&self) -> &[(String, String)] {
        &self.placeholders
    }

    /// Bytes of frames that the guest has received and sent.
    pub fn traffic(&self) -> Traffic {
        let stats = self.meter.look();
        Traffic { read: stats.frames_out, written: stats.frames_in }
    }

    /// What can be done to it.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The VM is closing: callbacks that hang are not waited for.
    pub fn hurry(&self) {
        self.control.hurry();
    }

    /// Ends it, and waits until nothing is left of it, within reason.
    pub async fn end(mut self) {
        self.control.close_ports().await;
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // It has its own deadline.
            let _ = task.await;
        }
        self.control.reporter().flush();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.cancel();
        self.control.end();
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("control", &self.control).finish_non_exhaustive()
    }
}

/// Waits for the stack's end, or ends it.
async fn watch_over(mut stack: Stack, stop: CancellationToken, journal: Arc<Journal>) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        result = stack.ended() => {
            match result {
                Ok(()) => tracing::debug!("the frame socket has ended"),
                Err(error) => {
                    let why = chain(&error);
                    journal.warn(format!("The network failed, and the guest has none now: {why}"));
                }
            }
            return;
        }
    }
    match timeout(NETWORK_END, stack.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = chain(&error), "the network had failed"),
        Err(_) => tracing::error!("the network did not end in time"),
    }
}

fn in_guest(authority: &Authority) -> guest_v1::Network {
    let address =
        |ip: String, prefix: u8| guest_v1::InterfaceAddress { ip, prefix_length: prefix.into() };
    let gateways = vec![GATEWAY_V4.to_string(), GATEWAY_V6.to_string()];
    guest_v1::Network {
        mtu: MTU.into(),
        addresses: vec![
            address(GUEST_V4.to_string(), PREFIX_V4),
            address(GUEST_V6.to_string(), PREFIX_V6),
        ],
        resolvers: gateways.clone(),
        gateways,
        certificate_authority: authority.certificate_pem().to_owned(),
        certificate_link: Authority::OPENSSL_LINK.to_owned(),
    }
}

//! Programs as they come, in a guest: what they reach on the host is relayed, or intercepted under one
//! name with a credential that they do not have.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use netstack::dns::{Dns, Server, Servers};
use netstack::http::{Event, Http, HttpRules, Limits, Observer, Options, Secrets, SetHeaders};
use netstack::names::Names;
use netstack::policy::{Allow, Rule, Rules, Services};
use netstack::tls::{Authority, Trust};
use netstack::{Config, HOST_V4, dns};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::guest::Guest;
use crate::servers::name_server;

/// The one name that is intercepted.
pub(crate) const NAME: &str = "api.example.com";
/// What every intercepted request is given.
pub(crate) const CREDENTIAL: &str = "Bearer for-the-origin-only";

/// A guest that programs run in.
pub(crate) struct Lane {
    guest: Guest,
    folder: TempDir,
    /// Moves the name server.
    _runtime: Runtime,
}

impl Lane {
    /// One that reaches these ports of the host by its address, or `None` where there can be none.
    pub(crate) fn relayed(test: &str, ports: &[u16]) -> Option<Self> {
        let mut rule = Rule::new(Allow::Tcp);
        rule.to = vec![format!("{HOST_V4}/32").parse().expect("a block")];
        rule.ports = ports.iter().map(|&port| port..=port).collect();
        let policy = Rules::new(vec![rule], Services::default(), None);
        Self::with(
            test,
            policy,
            TempDir::new().expect("a folder"),
            Runtime::new().expect("a runtime"),
        )
    }

    /// One that reaches these ports of the host by [`NAME`], through interception that believes an
    /// upstream with that root; or `None` where there can be none.
    pub(crate) fn intercepted(test: &str, root: &str, ports: &[u16]) -> Option<Self> {
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(name_server(HOST_V4)).0;
        let names = Arc::new(Names::new());
        let servers = Servers::new(vec![Server::from(server)]);
        let resolver = Dns::new(servers, Arc::clone(&names), dns::Options::default());
        let authority = Arc::new(Authority::new(SystemTime::now()).expect("an authority"));
        let http = Http::new(Options {
            names: Arc::clone(&names),
            authority: Arc::clone(&authority),
            trust: Arc::new(Trust::only(&[root]).expect("a root")),
            secrets: Arc::new(Secrets::default()),
            limits: Limits::default(),
            observer: Observer::new(|event| match event {
                Event::Request(record) if record.refusal.is_none() => (),
                event => eprintln!("{event:?}"),
            }),
        });
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(CREDENTIAL));
        let middleware = Some(Arc::new(SetHeaders::new(headers)) as _);
        let mut rule = Rule::new(Allow::Http);
        rule.host = Some(NAME.parse().expect("a host"));
        rule.ports = ports.iter().map(|&port| port..=port).collect();
        rule.allow_private = true;
        let services = Services {
            dns: Some(Arc::new(Arc::new(resolver))),
            names: Some(names),
            http: Some(Arc::new(HttpRules::new(http).rule(false, None).rule(true, middleware))),
        };
        let policy = Rules::new(vec![Rule::new(Allow::Dns), rule], services, None);
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.certificate_pem()).expect("written");
        Self::with(test, policy, folder, runtime)
    }

    fn with(test: &str, policy: Rules, folder: TempDir, runtime: Runtime) -> Option<Self> {
        let guest = Guest::with(test, Config::default(), Arc::new(policy))?;
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 10.0.2.1\n")
            .expect("written");
        let lane = Self { guest, folder, _runtime: runtime };
        if lane.run("true", &[]).0 != Some(0) {
            eprintln!("skipped: {test}: no mount namespace");
            return None;
        }
        Some(lane)
    }

    /// Runs a script in the guest's network with the guest's resolver, the authority's certificate in
    /// `$CA` and these variables. Its status, and what it said.
    pub(crate) fn run(&self, script: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let shell = format!("mount --bind \"$RESOLV\" /etc/resolv.conf || exit 78\n{script}");
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "100", "unshare", "--mount", "sh", "-c", &shell]);
        command.envs(variables.iter().copied());
        command.env("CA", self.folder.path().join("ca.pem"));
        command.env("RESOLV", self.folder.path().join("resolv.conf"));
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        let output = self.guest.run(move || command.output()).expect("timeout is here");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs a script that must succeed. What it said.
    pub(crate) fn must_run(&self, script: &str, variables: &[(&str, &str)]) -> String {
        let (status, said) = self.run(script, variables);
        assert_eq!(status, Some(0), "{script}: {said}");
        said
    }

    /// Runs `h2load`, and checks that every request is answered as it should be. What it said.
    pub(crate) fn load(&self, arguments: &str, requests: usize, url: &str) -> String {
        let script = format!("h2load -T 90 -n {requests} {arguments} {url}");
        let said = self.must_run(&script, &[]);
        let all = format!("{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.contains(&all), "{script}: {said}");
        assert!(said.contains(&format!("status codes: {requests} 2xx, 0 3xx")), "{script}: {said}");
        said
    }

    /// Runs something else in the guest's network.
    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Ends the network and checks that it ends.
    pub(crate) fn end(self) {
        self.guest.end();
    }
}

/// Whether there is a program of that name; says that the test is skipped where there is none.
pub(crate) fn installed(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists());
    if !found {
        eprintln!("skipped: {test}: {program} is not installed");
    }
    found
}

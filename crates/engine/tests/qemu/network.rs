//! The network device: frames both ways, up to the largest.

use engine::{ExitReason, NetworkSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::held::held;
use crate::linux_guest::linux;
use crate::support::{alone, boot, read_until};

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x15];
const GATEWAY: [u8; 4] = [10, 0, 2, 1];
const ETHERNET: usize = 14;

/// Answers ARP and echo requests to 10.0.2.1 until the machine is gone; the largest frame it saw.
async fn answer(mut frames: UnixStream) -> usize {
    let mut largest = 0;
    while let Ok(length) = frames.read_u32().await {
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        frames.read_exact(&mut frame).await.unwrap();
        largest = largest.max(frame.len());
        assert_eq!(frame[6..12], MAC);
        if !turn_round(&mut frame) {
            continue;
        }
        // The machine may be gone by now.
        let _ = frames.write_u32(length).await;
        let _ = frames.write_all(&frame).await;
    }
    largest
}

/// Makes a request into its answer.
fn turn_round(frame: &mut [u8]) -> bool {
    frame.copy_within(6..12, 0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    let (head, body) = frame.split_at_mut(ETHERNET);
    match head[12..] {
        [8, 6] if body[24..28] == GATEWAY => {
            body[7] = 2;
            let asker: [u8; 10] = body[8..18].try_into().unwrap();
            body[8..14].copy_from_slice(&head[6..12]);
            body[14..18].copy_from_slice(&GATEWAY);
            body[18..28].copy_from_slice(&asker);
            true
        }
        [8, 0] if body[9] == 1 && body[16..20] == GATEWAY && body[20] == 8 => {
            let (source, destination) = body[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
            body[20] = 0;
            let sum = u16::from_be_bytes([body[22], body[23]]);
            let (sum, carry) = sum.overflowing_add(0x0800);
            body[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            true
        }
        _ => false,
    }
}

#[test]
fn frames_of_every_size_go_both_ways() {
    const TEST: &str = "frames_of_every_size_go_both_ways";
    const SCRIPT: &str = r#"
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
echo "eth0 $(cat /sys/class/net/eth0/address) $(cat /sys/class/net/eth0/mtu)" >$port
for size in 20 1400 65490; do
  echo "$size $(ping -c 1 -W 30 -s $size 10.0.2.1 | grep -c "^$((size + 8)) bytes from")" >$port
done
echo end >$port
reboot -f"#;
    alone(TEST, async {
        let before = held();
        let Some(mut spec) = linux(TEST, SCRIPT) else { return };
        let (ours, frames) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        spec.network = Some(NetworkSpec { frames, mac: MAC, mtu: 65_520 });
        let peer = tokio::spawn(answer(UnixStream::from_std(ours).unwrap()));
        let mut vm = boot(spec).await;
        let said = read_until(&mut vm.take_control(), "end").await;
        assert!(said.contains("eth0 02:00:00:00:00:15 65520"), "{said}");
        assert!(said.contains("20 1") && said.contains("1400 1"), "{said}");
        assert!(said.contains("65490 1"), "{said}");
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
        drop(vm);
        assert_eq!(peer.await.unwrap(), ETHERNET + 28 + 65_490);
        assert_eq!(held(), before);
    });
}

#[test]
fn network_that_cannot_be_is_refused_by_name() {
    const TEST: &str = "network_that_cannot_be_is_refused_by_name";
    alone(TEST, async {
        for (mac, mtu, option) in
            [([1, 0, 0, 0, 0, 1], 1500, "network.mac"), (MAC, 1279, "network.mtu")]
        {
            let (frames, _ours) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut spec = crate::support::spec(crate::support::file(b"not read"));
            spec.network = Some(NetworkSpec { frames, mac, mtu });
            let error = engine::start(engine::probe::EngineKind::Qemu, spec).await.unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
    });
}

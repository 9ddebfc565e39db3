//! Echo requests.

use std::process::Command;

use crate::guest::Guest;

fn ping(guest: &Guest, address: &'static str) -> Option<bool> {
    guest.run(move || {
        let output = Command::new("ping").args(["-n", "-c1", "-W5", address]).output().ok()?;
        Some(output.status.success())
    })
}

#[test]
fn the_gateway_answers_for_itself() {
    let test = "the_gateway_answers_for_itself";
    let Some(guest) = Guest::new(test) else { return };
    for address in ["10.0.2.1", "fd00::1"] {
        match ping(&guest, address) {
            Some(answered) => assert!(answered, "{address}"),
            None => eprintln!("skipped: {test}: no ping command"),
        }
    }
    // Nothing of this is a flow.
    assert_eq!(guest.stack.stats().icmp, 0);
    guest.end();
}

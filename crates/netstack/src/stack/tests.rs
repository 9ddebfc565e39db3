//! The core under a virtual clock: a smoltcp client as guest behind a link that loses, doubles and
//! reorders frames, and a socket pair as upstream. The same seed gives the same run.

#[path = "../../tests/support/card.rs"]
mod card;
mod inbound;
mod reaching;
mod tcp;
mod udp;
mod world;

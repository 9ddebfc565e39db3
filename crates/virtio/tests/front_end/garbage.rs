//! Messages that mean nothing: the device ends, or goes on, but does not break.

use std::os::fd::AsFd;

use proptest::prelude::*;
use virtio::DeviceError;

use crate::driver::{FrontEnd, disk};

/// A message header and payload: mostly with a known code and a size that is right.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![8 => 0u32..45, 1 => any::<u32>()];
    let flags = prop_oneof![6 => Just(1u32), 3 => Just(9u32), 1 => any::<u32>()];
    let size = prop_oneof![Just(0), Just(8), Just(16), Just(40), 0..200usize];
    let payload = size.prop_flat_map(|size| prop::collection::vec(any::<u8>(), size));
    let small = prop::collection::vec(0u8..3, 0..64usize);
    (code, flags, prop_oneof![payload, small], prop_oneof![9 => Just(0u32), 1 => any::<u32>()])
        .prop_map(|(code, flags, payload, wrong)| {
            let size = u32::try_from(payload.len()).unwrap().wrapping_add(wrong);
            let header = [code, flags, size].map(u32::to_ne_bytes).concat();
            [header, payload].concat()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_end_in_an_orderly_way(
        messages in prop::collection::vec((message(), 0..3usize), 1..20),
        set_up in any::<bool>(),
    ) {
        let front_end = if set_up {
            FrontEnd::running(disk(8))
        } else {
            FrontEnd::connect(disk(8))
        };
        for (message, files) in messages {
            let files = vec![front_end.file.as_fd(); files];
            if front_end.socket.send_raw(&message, &files).is_err() {
                break;
            }
        }
        let ended = front_end.server.stop();
        prop_assert!(!matches!(ended, Err(DeviceError::Panicked)), "{ended:?}");
    }
}

//! GetMetrics: what the host sees, and what the guest says.

use protocol::ErrorCode;
use protocol::guest::v1::GetUsageResponse;
use protocol::v1;

use crate::client::{Helper, assert_code, detail, soon};
use crate::guest::Script;

#[tokio::test]
async fn metrics_are_those_of_the_engine_and_of_the_guest() {
    let usage = GetUsageResponse { cpu_micros: 5, memory_bytes: u64::MAX, available_bytes: 7 };
    let helper = Helper::booted(Script { usage: Some(usage), ..Script::default() }).await;
    let mut sandbox = helper.sandbox.clone();
    let asked = sandbox.get_metrics(v1::GetMetricsRequest {});
    let metrics = soon(asked).await.unwrap().into_inner();
    assert!(metrics.uptime_nanos > 0);
    let host = metrics.host.unwrap();
    // The played engine's, and this process.
    assert!(host.cpu_nanos >= 3_000_000_000 && host.resident_bytes > 1 << 20, "{host:?}");
    let guest = v1::GuestUsage { cpu_nanos: 5000, memory_bytes: u64::MAX, available_bytes: 7 };
    assert_eq!(metrics.guest, Some(guest));
    assert_eq!(metrics.disk, Some(v1::Traffic { in_bytes: 0, out_bytes: 0 }));
    assert_eq!(metrics.network, None);
}

#[tokio::test]
async fn guest_that_does_not_answer_is_left_out() {
    let helper = Helper::booted(Script::default()).await;
    let mut sandbox = helper.sandbox.clone();
    let asked = sandbox.get_metrics(v1::GetMetricsRequest {});
    let metrics = soon(asked).await.unwrap().into_inner();
    assert_eq!(metrics.guest, None);
    assert!(metrics.host.is_some());
}

#[tokio::test]
async fn metrics_need_a_vm_that_runs() {
    let helper = Helper::start(Script::default()).await;
    let mut sandbox = helper.sandbox.clone();
    let asked = sandbox.get_metrics(v1::GetMetricsRequest {});
    assert_code(&detail(soon(asked).await), ErrorCode::InvalidArgument);
}

//! The frequency of the processor's time stamp counter, which software emulation hands through to
//! the guest. The kernel cannot measure it well there, and on a busy host gives up and falls back
//! to a clock of 10 ms; so we measure it and say it on the kernel's command line.
//!
//! Two samples of counter and CLOCK_MONOTONIC_RAW, at least 5 ms apart, give about 10 ppm. The
//! first is taken by [`begin`], early; what else the start of a machine needs fills the time.

#![allow(unsafe_code, reason = "reads the time stamp counter")]

use std::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Least time between the samples.
const APART: Duration = Duration::from_millis(5);
/// Most time between the samples: over more, a suspend of the host may lie between them.
const TOGETHER: Duration = Duration::from_secs(10);

static FIRST: Mutex<Option<Sample>> = Mutex::new(None);

#[derive(Debug, Clone, Copy)]
struct Sample {
    ticks: u64,
    clock: Duration,
}

/// Takes the first sample, unless a usable one is there.
pub(crate) fn begin() {
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Sample::take();
    if first.is_none_or(|sample| now.clock.saturating_sub(sample.clock) > TOGETHER) {
        *first = Some(now);
    }
}

/// The frequency in kHz. Waits for what is left of the 5 ms since [`begin`]. `None` when the
/// counter is not one to keep time by: it changes its pace, or the host's kernel has dropped it.
pub(crate) async fn khz() -> Option<u32> {
    if !is_steady() {
        return None;
    }
    begin();
    let first = (*FIRST.lock().unwrap_or_else(PoisonError::into_inner))?;
    let since = Sample::take().clock.saturating_sub(first.clock);
    tokio::time::sleep(APART.saturating_sub(since)).await;
    frequency_khz(first, Sample::take())
}

/// `None` when the samples are not `APART`, or say something no processor does.
fn frequency_khz(first: Sample, second: Sample) -> Option<u32> {
    let nanos = second.clock.checked_sub(first.clock).filter(|time| *time >= APART)?.as_nanos();
    let ticks = u128::from(second.ticks.checked_sub(first.ticks)?);
    let khz = u32::try_from((ticks * 1_000_000 + nanos / 2) / nanos).ok()?;
    (100_000..=20_000_000).contains(&khz).then_some(khz)
}

impl Sample {
    /// The tightest of a few: what lies between two readings of the counter is the error.
    fn take() -> Self {
        let once = || {
            let before = ticks();
            let clock =
                clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).map_or(Duration::ZERO, Duration::from);
            let width = ticks().wrapping_sub(before);
            (width, Self { ticks: before.wrapping_add(width / 2), clock })
        };
        let first = once();
        (0..4).map(|_| once()).fold(first, |best, next| if next.0 < best.0 { next } else { best }).1
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has SSE2, which LFENCE is part of.
    unsafe { _mm_lfence() };
    // SAFETY: every x86-64 processor has the counter; Linux lets user code read it unless the
    // process has asked for a fault with PR_SET_TSC, which we never do.
    unsafe { _rdtsc() }
}

/// Whether the counter runs at one pace on all processors (AMD64 manual volume 3, CPUID
/// 8000_0007h EDX bit 8), and Linux agrees.
fn is_steady() -> bool {
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    let has_leaf = __cpuid(0x8000_0000).eax >= POWER_MANAGEMENT;
    let invariant = has_leaf && __cpuid(POWER_MANAGEMENT).edx & INVARIANT_TSC != 0;
    let sources = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
    invariant
        && std::fs::read_to_string(sources)
            .map_or(true, |sources| sources.split_whitespace().any(|name| name == "tsc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64, millis: u64) -> Sample {
        Sample { ticks, clock: Duration::from_millis(millis) }
    }

    #[test]
    fn two_samples_give_ticks_a_millisecond() {
        assert_eq!(frequency_khz(at(1_000, 50), at(26_001_000, 60)), Some(2_600_000));
    }

    #[test]
    fn samples_too_close_backward_or_absurd_give_nothing() {
        assert_eq!(frequency_khz(at(0, 50), at(9_000_000, 54)), None);
        assert_eq!(frequency_khz(at(0, 50), at(26_000_000, 40)), None);
        assert_eq!(frequency_khz(at(26_000_000, 50), at(0, 60)), None);
        assert_eq!(frequency_khz(at(0, 50), at(10, 60)), None);
    }

    #[tokio::test]
    async fn two_measurements_agree_within_a_thousandth() {
        let (Some(one), Some(two)) = (khz().await, khz().await) else {
            println!("skipped: two_measurements_agree_within_a_thousandth: the TSC is not steady");
            return;
        };
        assert!(one.abs_diff(two) < one / 1_000, "{one} and {two} kHz");
    }
}

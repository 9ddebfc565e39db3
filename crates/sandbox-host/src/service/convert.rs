//! Between our types and those of the protocol.

use std::time::{Duration, SystemTime};

use blockcow::{StoreCall, Traffic};
use engine::probe::{EngineKind, Finding, FindingCode, IsolationKind};
use protocol::guest::v1::GetUsageResponse;
use protocol::v1;
use protocol::v1::watch_response::Event as Wire;

use crate::console::Piece;
use crate::disk::StoreReport;
use crate::lane::{
    Booted, EndReason, Ended, Event, Measured, Observation, State, Status, unix_nanos,
};
use crate::mount::{Problem, Report};

pub(super) fn finding(finding: Finding) -> v1::EngineFinding {
    let code = match finding.code {
        FindingCode::Ok => v1::FindingCode::Ok,
        FindingCode::NoDevice => v1::FindingCode::NoDevice,
        FindingCode::NoPermission => v1::FindingCode::NoPermission,
        FindingCode::DeviceBroken => v1::FindingCode::DeviceBroken,
        FindingCode::KernelModeEmulated => v1::FindingCode::KernelModeEmulated,
        FindingCode::EngineNotBuilt => v1::FindingCode::EngineNotBuilt,
        FindingCode::EngineMissing => v1::FindingCode::EngineMissing,
        FindingCode::EngineTooOld => v1::FindingCode::EngineTooOld,
    };
    v1::EngineFinding {
        engine: engine(finding.engine).into(),
        isolation: isolation(finding.isolation).into(),
        code: code.into(),
        detail: finding.detail,
        remedy: finding.remedy,
    }
}

pub(super) fn booted(booted: Booted) -> v1::BootResponse {
    v1::BootResponse {
        engine: engine(booted.engine).into(),
        isolation: isolation(booted.isolation).into(),
        detail: booted.detail,
        kernel_release: booted.kernel_release,
    }
}

pub(super) fn status(status: Status) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        state: state(status.state).into(),
        boot_step: status.step,
        running_processes: status.processes,
        console_tail: status.console_tail,
        boot_error: status.boot_error,
    }
}

pub(super) fn observation(time: SystemTime, observation: Observation) -> v1::WatchResponse {
    let event = match observation {
        Observation::Event(Event::State(now)) => {
            Wire::StateChanged(v1::StateChanged { state: state(now).into() })
        }
        Observation::Event(Event::Step(name)) => Wire::BootStep(v1::BootStep { name }),
        Observation::Event(Event::Mount(report)) => Wire::Mount(mount_event(report)),
        Observation::Event(Event::Store(report)) => Wire::Store(store_event(report)),
        Observation::Event(Event::Network(event)) => Wire::Network(event),
        Observation::Event(Event::Warning(message)) => Wire::Warning(v1::Warning { message }),
        Observation::Console(Piece { data, skipped, .. }) => {
            Wire::Console(v1::ConsoleOutput { data, skipped_bytes: skipped })
        }
        Observation::Ended(end) => Wire::Exited(ended(&end)),
    };
    v1::WatchResponse { time_unix_nanos: unix_nanos(time), event: Some(event) }
}

pub(super) fn ended(ended: &Ended) -> v1::Exited {
    let reason = match ended.reason {
        EndReason::Closed => v1::ExitReason::Closed,
        EndReason::Killed => v1::ExitReason::Killed,
        EndReason::GuestStopped => v1::ExitReason::GuestStopped,
        EndReason::GuestPanicked => v1::ExitReason::GuestPanicked,
        EndReason::EngineFailed => v1::ExitReason::EngineFailed,
        EndReason::BootFailed => v1::ExitReason::BootFailed,
    };
    v1::Exited {
        reason: reason.into(),
        message: ended.message.clone(),
        engine_exit_code: ended.engine_exit_code,
        engine_signal: ended.engine_signal.clone(),
        console_tail: ended.console_tail.clone(),
    }
}

fn mount_event(report: Report) -> v1::MountEvent {
    let problem = match report.problem {
        Problem::Deadline => v1::MountProblem::Deadline,
        Problem::WrongAnswer => v1::MountProblem::WrongAnswer,
        Problem::Limit => v1::MountProblem::Limit,
        Problem::Detached => v1::MountProblem::Detached,
        Problem::Watch => v1::MountProblem::Watch,
    };
    let Report { target, path, message, .. } = report;
    v1::MountEvent { target, problem: problem.into(), path, message }
}

fn store_event(report: StoreReport) -> v1::StoreEvent {
    let operation = match report.call {
        StoreCall::Read => v1::StoreOperation::Read,
        StoreCall::Write => v1::StoreOperation::Write,
        StoreCall::Flush => v1::StoreOperation::Flush,
    };
    let StoreReport { recovered, message, .. } = report;
    v1::StoreEvent { operation: operation.into(), recovered, message }
}

fn engine(engine: EngineKind) -> v1::EngineKind {
    match engine {
        EngineKind::Krun => v1::EngineKind::Krun,
        EngineKind::Qemu => v1::EngineKind::Qemu,
    }
}

fn isolation(isolation: IsolationKind) -> v1::IsolationKind {
    match isolation {
        IsolationKind::Hardware => v1::IsolationKind::Hardware,
        IsolationKind::Emulated => v1::IsolationKind::Emulated,
    }
}

fn state(state: State) -> v1::State {
    match state {
        State::Idle => v1::State::Idle,
        State::Booting => v1::State::Booting,
        State::Running => v1::State::Running,
        State::Closing => v1::State::Closing,
        State::Exited => v1::State::Exited,
    }
}

/// What was used, with what the guest says of itself.
pub(super) fn metrics(
    measured: &Measured,
    guest: Option<GetUsageResponse>,
) -> v1::GetMetricsResponse {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let traffic = |bytes: Traffic| v1::Traffic { in_bytes: bytes.read, out_bytes: bytes.written };
    v1::GetMetricsResponse {
        uptime_nanos: nanos(measured.uptime),
        host: Some(v1::HostUsage {
            cpu_nanos: nanos(measured.host.cpu),
            resident_bytes: measured.host.resident_bytes,
        }),
        guest: guest.map(|usage| v1::GuestUsage {
            cpu_nanos: usage.cpu_micros.saturating_mul(1000),
            memory_bytes: usage.memory_bytes,
            available_bytes: usage.available_bytes,
        }),
        disk: Some(traffic(measured.disk)),
        network: measured.network.map(traffic),
    }
}

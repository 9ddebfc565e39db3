//! The engine crate behind the lane's traits.

use engine::probe::{EngineKind, Finding};
use engine::{Exit, StartError, Usage, Vm, VmSpec};
use tokio::net::UnixStream;

use super::{Engine, Machine, Pending};

/// The engines of the `engine` crate.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealEngine;

impl Engine for RealEngine {
    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        Box::pin(async {
            tokio::task::spawn_blocking(engine::probe::probe).await.unwrap_or_else(|error| {
                tracing::error!(%error, "the probe ended unexpectedly");
                Vec::new()
            })
        })
    }

    fn start(
        &self,
        kind: EngineKind,
        spec: VmSpec,
    ) -> Pending<'_, Result<Box<dyn Machine>, StartError>> {
        Box::pin(async move {
            engine::start(kind, spec).await.map(|vm| Box::new(vm) as Box<dyn Machine>)
        })
    }
}

impl Machine for Vm {
    fn take_control(&mut self) -> UnixStream {
        Vm::take_control(self)
    }

    fn take_console(&mut self) -> UnixStream {
        Vm::take_console(self)
    }

    fn detail(&self) -> String {
        Vm::detail(self)
    }

    fn usage(&self) -> Usage {
        Vm::usage(self)
    }

    fn warnings(&self) -> Vec<String> {
        Vm::warnings(self).to_vec()
    }

    fn wait(&mut self) -> Pending<'_, Exit> {
        Box::pin(Vm::wait(self))
    }

    fn kill(&self) {
        Vm::kill(self);
    }
}

//! The thread that starts processes, where there is one.
//!
//! A process that confines itself lets one thread alone start programs: this one, which begins
//! before the others lose the right to. It lives as long as the process, so that what it starts dies
//! with the process (the parent-death signal is bound to the thread that forks) and not before.
//! Without it, whoever wants a process starts it.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Commands that wait for their turn.
const ORDERS: usize = 4;

static ORDERS_TO: OnceLock<SyncSender<Order>> = OnceLock::new();

struct Order {
    command: Command,
    done: SyncSender<(Command, io::Result<Child>)>,
}

/// Starts the thread, and returns when it has run `prepare`. Once in the life of a process.
///
/// # Errors
/// What `prepare` returned, or why there can be no thread; nothing can be started then.
pub fn begin<E: From<io::Error> + Send + 'static>(
    prepare: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), E> {
    let (orders, queue) = sync_channel(ORDERS);
    let (prepared, outcome) = sync_channel(1);
    let run = move || {
        let result = prepare();
        let good = result.is_ok();
        let _ = prepared.send(result);
        if good {
            serve(&queue);
        }
    };
    std::thread::Builder::new().name("launcher".to_owned()).stack_size(512 * 1024).spawn(run)?;
    outcome.recv().map_err(|_| io::Error::other("the launcher's thread ended"))??;
    ORDERS_TO.set(orders).map_err(|_| io::Error::other("there is a launcher already"))?;
    Ok(())
}

fn serve(queue: &Receiver<Order>) {
    while let Ok(Order { mut command, done }) = queue.recv() {
        let child = command.spawn();
        if let Err(lost) = done.send((command, child))
            && let Ok(mut child) = lost.0.1
        {
            // Nobody knows of it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process. The command comes back, with the descriptors that it holds.
pub(crate) fn start(mut command: Command) -> (Option<Command>, io::Result<Child>) {
    let Some(orders) = ORDERS_TO.get() else {
        let child = command.spawn();
        return (Some(command), child);
    };
    let (done, result) = sync_channel(1);
    let gone = || io::Error::other("the launcher's thread is gone");
    if orders.send(Order { command, done }).is_err() {
        return (None, Err(gone()));
    }
    match result.recv() {
        Ok((command, child)) => (Some(command), child),
        Err(_) => (None, Err(gone())),
    }
}

//! Ctrl-C and SIGTERM, as a flag that long commands look at, so that they end in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that the user interrupts twice: 128 + SIGINT, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;

/// Set once the user wants the command to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over SIGINT and SIGTERM. The first one sets the flag; a second one ends the process, in case the
    /// command waits for something that never comes.
    pub(crate) fn watch() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let requested = Arc::clone(&interrupt.requested);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut int, mut term) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                    }
                    if requested.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED);
                    }
                }
            });
        })?;
        Ok(interrupt)
    }

    /// As if the user did it.
    #[cfg(test)]
    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }

    pub(crate) fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

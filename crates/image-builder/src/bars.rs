//! How far a pull has come: bars on a terminal, a line for each piece of work elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci_image::{Progress, Step};

/// For what stderr is.
pub(crate) fn progress() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bars(MultiProgress::new()))
    } else {
        Box::new(Lines)
    }
}

struct Bars(MultiProgress);

impl Progress for Bars {
    fn begin(&self, what: &str, bytes: u64) -> Box<dyn Step> {
        let bar = self.0.add(ProgressBar::new(bytes));
        // A template that cannot be read would be a plain bar.
        if let Ok(style) = ProgressStyle::with_template(
            "{msg:26} {bar:30} {bytes:>11} of {total_bytes} {bytes_per_sec}",
        ) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Box::new(Bar(bar))
    }
}

struct Bar(ProgressBar);

impl Step for Bar {
    fn at(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

struct Lines;

impl Progress for Lines {
    fn begin(&self, what: &str, bytes: u64) -> Box<dyn Step> {
        let mib = bytes / (1 << 20);
        let tenths = bytes % (1 << 20) * 10 / (1 << 20);
        eprintln!("{what}: {mib}.{tenths} MiB");
        Box::new(Self)
    }
}

impl Step for Lines {
    fn at(&mut self, _bytes: u64) {}
}

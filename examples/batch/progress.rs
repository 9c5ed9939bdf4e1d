//! How far it is, for whoever looks on: a bar if the standard error is a terminal, else nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::files::File;

/// Counts bytes, which tell the time that is left better than files do.
pub(crate) struct Progress {
    bar: ProgressBar,
    files: usize,
    done: usize,
    failed: usize,
}

impl Progress {
    pub(crate) fn begin(files: &[File]) -> Self {
        let bytes = files
            .iter()
            .map(|file| file.size)
            .fold(0, u64::saturating_add);
        // This target draws nothing where there is no terminal.
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is right"));
        // So that the time goes on while a large file is worked on.
        bar.enable_steady_tick(Duration::from_millis(250));
        let progress = Self {
            bar,
            files: files.len(),
            done: 0,
            failed: 0,
        };
        progress.tell();
        progress
    }

    /// A file is behind us, whatever became of it.
    pub(crate) fn advance(&mut self, file: &File, is_good: bool) {
        self.done += 1;
        self.failed += usize::from(!is_good);
        self.bar.inc(file.size);
        self.tell();
    }

    fn tell(&self) {
        let Self { files, done, .. } = self;
        self.bar.set_message(match self.failed {
            0 => format!("{done}/{files}"),
            failed => format!("{done}/{files}, {failed} failed"),
        });
    }

    /// Does something that may print, with the bar out of its way.
    pub(crate) fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

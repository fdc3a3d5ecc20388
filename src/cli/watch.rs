//! A view that refreshes in place.
use super::{Done, Exit, Failure, out, view};
use crate::sys::linux::reactor::block_on;
use crate::sys::linux::signals::Signals;
use async_io::Timer;
use futures_lite::future::or;
use std::io::IsTerminal as _;
use std::time::Duration;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Draws each second until a signal or an error. On a terminal it takes the alternate screen and gives it back; what
/// was drawn last then stays to be read. A node that ends meanwhile is waited for, one that never ran is not.
pub fn watch(draw: &dyn Fn() -> Result<String, Failure>) -> Done {
    // Before the timer starts its thread: threads inherit what is blocked.
    let signals = Signals::take().map_err(|e| Failure::new(Exit::Failed, format!("signals: {e}")))?;
    if !std::io::stdout().is_terminal() {
        return run(repeat(&signals, &mut || out::print(&draw()?)));
    }
    let mut last = draw()?;
    out::print(ENTER)?;
    let done = run(repeat(&signals, &mut || {
        last = match draw() {
            Ok(text) => text,
            Err(failure) if failure.exit == Exit::NotRunning => format!("echomesh: {failure}\n"),
            Err(failure) => return Err(failure),
        };
        out::print(&screen(&last, screen_size().map_or(24, |(_, rows)| rows)))
    }));
    let left = out::print(&format!("{LEAVE}{last}"));
    done.and(left)
}

fn run(view: impl Future<Output = Done>) -> Done {
    block_on(view).map_err(|e| Failure::new(Exit::Failed, format!("the view cannot wait: {e}")))?
}

/// Columns and rows of the terminal on standard output, if it is one and tells.
pub fn screen_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some((size.ws_col.into(), size.ws_row.into())).filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// A text that replaces what is on the screen, line by line so that it does not flicker. The last line stays free for the
/// cursor: a line feed there would move everything up.
fn screen(text: &str, rows: usize) -> String {
    let text = view::fit(text, rows.saturating_sub(1));
    let lines: Vec<String> = text.lines().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
    format!("{HOME}{}{CLEAR_BELOW}", lines.concat())
}

async fn repeat(signals: &Signals, draw: &mut dyn FnMut() -> Done) -> Done {
    loop {
        draw()?;
        let second = async {
            Timer::after(Duration::from_secs(1)).await;
            false
        };
        let told = async {
            let _ = signals.next().await;
            true
        };
        if or(told, second).await {
            return Ok(());
        }
    }
}

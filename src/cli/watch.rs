//! A view that refreshes in place.
use super::{Done, Exit, Failure, out};
use crate::sys::linux::signals::Signals;
use async_io::Timer;
use futures_lite::future::{block_on, or};
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
        return block_on(repeat(&signals, &mut || out::print(&draw()?)));
    }
    let mut last = draw()?;
    out::print(ENTER)?;
    let done = block_on(repeat(&signals, &mut || {
        last = match draw() {
            Ok(text) => text,
            Err(failure) if failure.exit == Exit::NotRunning => format!("echomesh: {failure}\n"),
            Err(failure) => return Err(failure),
        };
        out::print(&screen(&last))
    }));
    let left = out::print(&format!("{LEAVE}{last}"));
    done.and(left)
}

/// A text that replaces what is on the screen, line by line so that it does not flicker.
fn screen(text: &str) -> String {
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

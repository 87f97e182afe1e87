//! The terminal while `millstream top` has it: its other screen, without a cursor, with each key as it is typed. What was
//! there before comes back however this ends.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, queue};

use super::frame::{Frame, Style};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

const HELP: &str = "q ends";

pub(super) struct Screen<'a> {
    output: &'a mut Output,
}

impl<'a> Screen<'a> {
    pub(super) fn open(output: &'a mut Output) -> Result<Self, Failure> {
        enable_raw_mode().map_err(Failure::Output)?;
        // From here on it is put back.
        let screen = Self { output };
        let mut bytes = Vec::new();
        queue!(bytes, EnterAlternateScreen, cursor::Hide, DisableLineWrap).map_err(Failure::Output)?;
        screen.output.bytes(&bytes)?;
        Ok(screen)
    }

    pub(super) fn show(&mut self, frame: &Frame) -> Result<(), Failure> {
        let (columns, rows) = size().map_err(Failure::Output)?;
        let bytes = drawn(frame, columns.into(), rows.into()).map_err(Failure::Output)?;
        self.output.bytes(&bytes)?;
        self.output.flush()
    }

    /// Waits a moment for `q`, Esc or Ctrl-C, which is a key here. A terminal of another size is drawn anew.
    pub(super) fn wants_to_leave(&mut self, wait: Duration, frame: &Frame) -> Result<bool, Failure> {
        if !event::poll(wait).map_err(Failure::Output)? {
            return Ok(false);
        }
        match event::read().map_err(Failure::Output)? {
            Event::Key(key) => Ok(leaves(&key)),
            Event::Resize(..) => self.show(frame).map(|()| false),
            _ => Ok(false),
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let mut bytes = Vec::new();
        // A terminal that is gone needs nothing put back.
        let _ = queue!(bytes, EnableLineWrap, cursor::Show, LeaveAlternateScreen);
        let _ = self.output.bytes(&bytes);
        let _ = self.output.flush();
        let _ = disable_raw_mode();
    }
}

fn leaves(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

/// A frame on a screen of that size: what does not fit is left out, and said to be.
fn drawn(frame: &Frame, columns: usize, rows: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let room = rows.saturating_sub(1);
    let fits = frame.lines.len() <= room;
    for (row, (line, style)) in (0_u16..).zip(frame.lines.iter().take(room)) {
        let line: String = line.chars().take(columns).collect();
        queue!(bytes, cursor::MoveTo(0, row))?;
        match style {
            Style::Plain => {}
            Style::Head => queue!(bytes, SetAttribute(Attribute::Bold))?,
            Style::Waiting => queue!(bytes, SetForegroundColor(Color::Yellow))?,
            Style::Bad => queue!(bytes, SetForegroundColor(Color::Red))?,
        }
        queue!(bytes, Print(line), SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
    }
    queue!(bytes, Clear(ClearType::FromCursorDown))?;
    let help = match fits {
        true => HELP.to_owned(),
        false => format!("{HELP}; {} more lines need a higher terminal", frame.lines.len() - room),
    };
    let help: String = help.chars().take(columns).collect();
    let last = u16::try_from(room).unwrap_or(u16::MAX);
    queue!(bytes, cursor::MoveTo(0, last), Print(help), Clear(ClearType::UntilNewLine))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_leave() {
        let key = |code, modifiers| leaves(&KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Char('x'), KeyModifiers::NONE));
    }

    #[test]
    fn a_frame_is_cut_to_the_screen() {
        let lines = (0..5).map(|at| (format!("line {at} is long"), Style::Plain)).collect();
        let text = |columns, rows| {
            String::from_utf8(drawn(&Frame { lines: Vec::clone(&lines) }, columns, rows).unwrap()).unwrap()
        };
        let whole = text(80, 6);
        assert!(whole.contains("line 4 is long") && whole.ends_with("q ends\x1b[K"), "{whole:?}");
        let cut = text(6, 4);
        assert!(cut.contains("line 2\x1b") && !cut.contains("line 3"), "{cut:?}");
        assert!(text(80, 4).contains("q ends; 2 more lines"), "{cut:?}");
        // Somebody has made it as small as that.
        assert!(!text(0, 0).contains("line"));
    }
}

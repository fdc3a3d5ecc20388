//! Windows of the week as a person writes them: `Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00`.
use crate::config::DAYS;
use crate::json::{Value, array, object};

/// What a schedule is, in an error message.
pub const ALLOWED: &str = "always, or DAYS HH:MM-HH:MM, several with ; between them, such as Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00";

/// The windows of a text: the value of `node.schedules`. Days and times that do not exist stay as they are written, for
/// the schema to name them. `None` if the text has another shape.
pub fn parse(text: &str) -> Option<Value> {
    if text.trim().eq_ignore_ascii_case("always") {
        return Some(Value::Array(Vec::new()));
    }
    let windows = text.split(';').map(str::trim).filter(|w| !w.is_empty());
    let windows: Vec<Value> = windows.map(window).collect::<Option<_>>()?;
    (!windows.is_empty()).then_some(Value::Array(windows))
}

fn window(text: &str) -> Option<Value> {
    let (days, times) = text.rsplit_once(char::is_whitespace)?;
    let (start, end) = times.split_once('-')?;
    let mut named = Vec::new();
    for part in days.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.split_once('-').and_then(|(first, last)| Some((day(first)?, day(last)?))) {
            Some((first, last)) => {
                let length = (last + DAYS.len() - first) % DAYS.len() + 1;
                let range = DAYS.iter().cycle().skip(first).take(length);
                named.extend(range.map(|day| (*day).to_owned()));
            }
            None => named.push(day(part).and_then(|at| DAYS.get(at)).map_or(part, |d| *d).to_owned()),
        }
    }
    Some(object([("days", array(named)), ("start", start.trim().into()), ("end", end.trim().into())]))
}

/// The place of a day in the week, by its first three letters in either case.
fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))
}

/// The text of a value of `node.schedules`; what [`parse`] reads back as the same windows.
pub fn text(schedules: &Value) -> String {
    let windows: Vec<String> = schedules.as_array().unwrap_or_default().iter().map(window_text).collect();
    if windows.is_empty() { "always".to_owned() } else { windows.join("; ") }
}

fn window_text(window: &Value) -> String {
    let word = |name| window.member(name).and_then(Value::as_str).unwrap_or_default();
    let on = window.member("days").and_then(Value::as_array).unwrap_or_default();
    let is_on = |day: &&str| on.iter().any(|v| v.as_str() == Some(*day));
    let mut parts = Vec::new();
    let mut at = 0;
    while at < DAYS.len() {
        let run: Vec<_> = DAYS.iter().skip(at).take_while(|d| is_on(d)).copied().collect();
        match run.as_slice() {
            [first, _, .., last] => parts.push(format!("{first}-{last}")),
            few => parts.extend(few.iter().map(|d| (*d).to_owned())),
        }
        at += run.len() + 1;
    }
    format!("{} {}-{}", parts.join(","), word("start"), word("end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn days(text: &str) -> String {
        let value = parse(text).unwrap();
        let days = value.as_array().unwrap()[0].member("days").unwrap().as_array().unwrap().to_vec();
        days.iter().map(|d| d.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn days_are_single_in_lists_and_in_ranges() {
        assert_eq!(days("mon-FRI 22:00-06:00"), "Mon Tue Wed Thu Fri");
        assert_eq!(days("Sat, Sun 00:00-24:00"), "Sat Sun");
        assert_eq!(days("Sat-Mon,Wed 1:00-2:00"), "Sat Sun Mon Wed");
        assert_eq!(days("Sun 01:00-02:00"), "Sun");
        assert_eq!(days("Moo,Mon-Foo 01:00-02:00"), "Moo Mon-Foo");
    }

    #[test]
    fn another_shape_is_no_schedule() {
        for text in ["", ";", "Mon", "22:00-06:00", "Mon 22:00", "Mon-Fri"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("Always"), Some(Value::Array(vec![])));
        assert_eq!(text(&Value::Array(vec![])), "always");
    }

    #[test]
    fn windows_are_shown_as_they_are_typed() {
        for typed in
            ["Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00", "Mon,Wed,Fri-Sun 01:00-02:30", "Mon-Sun 00:00-24:00"]
        {
            assert_eq!(text(&parse(typed).unwrap()), typed);
        }
        assert_eq!(text(&parse("Sat-Mon 1:00-2:00").unwrap()), "Mon,Sat,Sun 1:00-2:00");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(on in prop::collection::vec(any::<bool>(), 7), a in 0u32..24, b in 0u32..60) {
            let named: Vec<&str> = DAYS.iter().zip(&on).filter(|(_, on)| **on).map(|(d, _)| *d).collect();
            prop_assume!(!named.is_empty());
            let window = object([("days", array(named)), ("start", format!("{a:02}:{b:02}").into()), ("end", "24:00".into())]);
            let value = Value::Array(vec![window]);
            prop_assert_eq!(parse(&text(&value)), Some(value));
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}

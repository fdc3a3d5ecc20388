//! Closing, settling, and all counts side by side.
use super::Outcome;
use super::ask::{count, wait};
use super::setup::Stage;
use super::story::{Session, access_log, node_bytes};
use super::view::{View, grouped};
use crate::lab::json::{Json, Members, as_str, object, text};

/// One party's count: from the origin, to the origin.
struct Row(&'static str, u64, u64);

/// Closes the session, waits until it is settled, compares all counts.
pub fn settle(view: &View, stage: &Stage, session: &Session) -> Outcome<bool> {
    wait("the last flow's end", 5_000, || {
        let sessions = stage.node.call("GET", "/sessions", None)?;
        let mine = sessions.list("sessions").iter().find(|s| s.str("sessionId") == Some(&session.id));
        Ok((count(mine, "open") == 0).then_some(()))
    })?;
    let node = node_bytes(stage, &session.id)?;
    let close = object([
        ("sessionId", text(session.id.clone())),
        ("reason", text("buyer-ended")),
        ("waitMs", 20_000.0.into()),
    ]);
    let closed = stage.lab.call("POST", "/close", Some(&close))?;
    let state = closed.str("state").unwrap_or_default();
    let known = stage.lab.call("GET", &format!("/sessions?sessionId={}", session.id), None)?;
    let bundles = known.list("bundles").len();
    let told = format!("session {state}, {bundles} signed bundle(s) delivered");
    let mut ok = view.verdict(state == "settled", "settle", &told);
    let log = access_log(stage)?;
    let told = format!("{} exported lines hash to what the bundles say", count(Some(&log), "lines"));
    ok &= view.verdict(log.member("ok") == Some(&Json::Boolean(true)), "log", &told);
    ok &= verdict(view, stage, &session.id)?;
    let origin = stage.lab.call("GET", "/origin", None)?;
    let totals = known.member("totals");
    let rows = [
        Row("curl: content", session.content.0, session.content.1),
        Row(
            "origin: TCP payload at its socket",
            count(Some(&origin), "sent"),
            count(Some(&origin), "received"),
        ),
        Row("node: /sessions", node.0, node.1),
        Row(
            "coordinator: sum of bundles",
            count(Some(&known), "bytesIngress"),
            count(Some(&known), "bytesEgress"),
        ),
        Row("coordinator: totals at settlement", count(totals, "bytesIngress"), count(totals, "bytesEgress")),
    ];
    ok &= table(view, &rows);
    figures(view, stage, &rows)?;
    Ok(ok)
}

fn verdict(view: &View, stage: &Stage, id: &str) -> Outcome<bool> {
    let verdict = stage.lab.call("GET", &format!("/verdict?sessionId={id}"), None)?;
    let ok = verdict.member("ok") == Some(&Json::Boolean(true));
    view.verdict(ok, "verdict", "the coordinator's:");
    for line in verdict.list("lines").iter().filter_map(as_str) {
        view.line(&format!("    {line}"));
    }
    for breach in verdict.list("violations") {
        let [rule, detail] = ["rule", "detail"].map(|name| breach.str(name).unwrap_or_default());
        view.line(&format!("    {}: {detail}", view.paint("31", rule)));
    }
    Ok(ok)
}

/// All but curl's content must be the same.
fn table(view: &View, rows: &[Row]) -> bool {
    view.line(&format!("\n{:<36}{:>18}{:>16}", "bytes", "from the origin", "to the origin"));
    for Row(name, from, to) in rows {
        view.line(&format!("  {name:<34}{:>18}{:>16}", grouped(*from), grouped(*to)));
    }
    let agree = agree(rows);
    view.line("");
    view.verdict(
        agree,
        "sums",
        if agree { "origin, node, bundles and totals agree" } else { "they do not agree" },
    )
}

fn agree(rows: &[Row]) -> bool {
    let mut counts = rows.iter().skip(1).map(|Row(_, from, to)| (from, to));
    let first = counts.next();
    first.is_some_and(|(from, _)| *from > 0) && counts.all(|other| Some(other) == first)
}

fn figures(view: &View, stage: &Stage, rows: &[Row]) -> Outcome<()> {
    if let [Row(_, content, _), Row(_, payload, _), ..] = rows {
        let over = payload.saturating_sub(*content);
        let permille = (over * 1000).checked_div(*payload).unwrap_or(0);
        let told = format!("{} bytes ({}.{} %)", grouped(over), permille / 10, permille % 10);
        view.line(&format!(
            "  More than curl's content from the origin: TLS records, handshakes, HTTP heads: {told}."
        ));
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", stage.node_pid)).map_err(|e| e.to_string())?;
    let kb = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_ascii_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", stage.node_pid)).map_err(|e| e.to_string())?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // utime and stime are fields 14 and 15 of proc(5), 12 and 13 after the name.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let ms = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    let told =
        format!("RSS {} kB now, {} kB at most; {ms} ms of CPU time in all", kb("VmRSS:"), kb("VmHWM:"));
    view.step("node", &told);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_only_if_all_but_the_content_are_equal() {
        let rows = |n| [Row("curl", 1, 1), Row("origin", 9, 5), Row("node", 9, 5), Row("bundles", 9, n)];
        assert!(agree(&rows(5)));
        assert!(!agree(&rows(6)));
        assert!(!agree(&[Row("curl", 0, 0), Row("origin", 0, 0), Row("node", 0, 0)]));
    }
}

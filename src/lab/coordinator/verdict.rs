//! What the coordinator concludes: a list of checks a person can read.
use super::sessions::{Session, check_totals};
use super::{Breach, Coordinator, metering::Attested};
use crate::lab::clock::parse_instant;
use crate::lab::json::{Json, Members, as_str, number, object, parse, text};
use crate::lab::{blake3, keys};

struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

impl Coordinator {
    /// The verdict on one session, or on all.
    pub fn verdict(&self, only: Option<&str>, now: i64) -> Json {
        let mut all = Vec::new();
        for (id, session) in
            self.sessions.iter().filter(|(id, _)| only.is_none_or(|only| only == id.as_str()))
        {
            let checks = self.session_checks(id, session, now);
            all.push(checks_json(Some(id), &checks));
        }
        let concerns =
            |breach: &&Breach| only.is_none_or(|only| breach.session.as_deref().is_none_or(|id| id == only));
        let breaches: Vec<Json> = self.breaches.iter().filter(concerns).map(Breach::to_json).collect();
        let none = breaches.is_empty() && self.breaches_left_off == 0;
        let detail = format!("{} recorded", breaches.len() as u64 + self.breaches_left_off);
        let general = [Check { name: "no breach of the contract", ok: none, detail }];
        let sessions_ok = all.iter().all(|one| one.member("ok") == Some(&Json::Boolean(true)));
        let found = only.is_none() || !all.is_empty();
        all.push(checks_json(None, &general));
        let lines: Vec<Json> = all.iter().flat_map(|one| one.list("lines").to_vec()).collect();
        object([
            ("ok", (none && sessions_ok && found).into()),
            ("sessions", number(all.len() - 1)),
            ("lines", Json::Array(lines)),
            ("checks", Json::Array(all)),
            ("violations", Json::Array(breaches)),
        ])
    }

    fn session_checks(&self, id: &str, session: &Session, now: i64) -> Vec<Check> {
        let steps: Vec<&str> = session.transitions.iter().map(|(name, _, _)| name.as_str()).collect();
        let mut checks = Vec::new();
        let mut check = |name, ok, detail: String| checks.push(Check { name, ok, detail });
        if session.state == "refused" {
            let reason = session.opens.first().and_then(|sent| sent.answer.clone()).unwrap_or_default();
            check("refused as expected", true, reason);
            return checks;
        }
        let whole = ["accepted", "active", "closing", "settled"];
        let order = steps == whole || steps == ["accepted", "closing", "settled"];
        check("transitions in order", order, steps.join(", "));
        let signed = session.bundles.iter().filter(|bundle| signature_holds(bundle)).count();
        let count = session.bundles.len();
        check("every bundle is signed by the node", signed == count, format!("{signed} of {count}"));
        let links = session.bundles.iter().zip(session.bundles.iter().skip(1));
        let broken =
            links.filter(|(before, after)| after.object.str("prevHash") != Some(&before.hash)).count();
        check("the hash chain holds", broken == 0, format!("{count} bundles, {broken} broken links"));
        let refused = session.bundles.iter().filter(|bundle| bundle.status == "refused").count();
        check("every bundle is accepted", refused == 0, format!("{refused} refused"));
        let settled = session.transition("settled");
        let wrong = settled.map(|body| check_totals(body, session)).unwrap_or_default();
        let (ingress, egress) = session.carried();
        let figures =
            format!("ingress {ingress} B, egress {egress} B, {} connections", session.sum("connections"));
        check("totals equal the sum of bundles", settled.is_some() && wrong.is_empty(), figures);
        let overdue =
            session.time("expiresAt").is_some_and(|at| now > at + 60_000) && session.state == "active";
        check("closed at expiresAt at the latest", !overdue, session.state.clone());
        let own = self.breaches.iter().filter(|breach| breach.session.as_deref() == Some(id)).count();
        check("no breach in this session", own == 0, format!("{own} recorded"));
        checks
    }

    /// Compares every bundle's `accessLogHash` with exported log lines.
    pub fn check_access_log(&self, export: &str) -> Json {
        let mut wrong = Vec::new();
        let mut lines = Vec::new();
        for raw in export.split_inclusive('\n') {
            match parse(raw.as_bytes()) {
                Ok(line) => lines.push((raw, line)),
                Err(error) => wrong.push(text(format!("{error}: {raw}"))),
            }
        }
        let mut seen = 0;
        for (id, session) in &self.sessions {
            let own: Vec<&(&str, Json)> =
                lines.iter().filter(|(_, line)| line.str("sessionId") == Some(id)).collect();
            for bundle in &session.bundles {
                let (hash, count) = window_hash(bundle, &own);
                seen += count;
                if bundle.object.str("accessLogHash") != Some(&hash) {
                    let seq = bundle.object.int("seq").unwrap_or(-1);
                    wrong.push(text(format!("session {id} seq {seq}: {count} lines hash to {hash}")));
                }
            }
        }
        let ok = wrong.is_empty();
        object([
            ("ok", ok.into()),
            ("lines", number(lines.len())),
            ("covered", number(seen as i64)),
            ("wrong", Json::Array(wrong)),
        ])
    }
}

fn window_hash(bundle: &Attested, lines: &[&(&str, Json)]) -> (String, usize) {
    let time = |name: &str| bundle.object.str(name).and_then(parse_instant).unwrap_or(0);
    let window = time("windowStart")..time("windowEnd");
    let inside = lines
        .iter()
        .filter(|(_, line)| line.str("t").and_then(parse_instant).is_some_and(|t| window.contains(&t)));
    let raw: Vec<&str> = inside.map(|(raw, _)| *raw).collect();
    (blake3::name(raw.concat().as_bytes()), raw.len())
}

fn signature_holds(bundle: &Attested) -> bool {
    let public = bundle.object.member("nodeId").and_then(as_str).and_then(keys::node_public);
    keys::verify_object(public.unwrap_or_default(), "metering", &bundle.object, "nodeSig")
}

fn checks_json(session: Option<&str>, checks: &[Check]) -> Json {
    let ok = checks.iter().all(|check| check.ok);
    let whose = session.map_or_else(|| "all".to_owned(), |id| id.chars().take(8).collect());
    let line = |check: &Check| {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        text(format!("{mark} {whose}: {} ({})", check.name, check.detail))
    };
    object([
        ("sessionId", session.map_or(Json::Null, text)),
        ("ok", ok.into()),
        ("lines", Json::Array(checks.iter().map(line).collect())),
    ])
}

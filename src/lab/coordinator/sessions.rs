//! Sessions: their transitions, in the contract's order, with what each must carry.
use super::metering::Attested;
use super::{Call, Coordinator, Reply, shapes};
use crate::lab::clock::{instant, parse_instant};
use crate::lab::json::{Json, Members, canonical, number, object, text};

const CLOSE_REASONS: [&str; 4] = ["buyer-ended", "budget", "policy", "coordinator"];
const OWN_REASONS: [&str; 5] = ["expired", "quota", "stopped", "quarantined", "wiped"];

/// An `open` that was queued, and what came of it.
pub struct OpenSent {
    /// The signed object.
    pub object: Json,
    /// The refusal the node must give, if the coordinator can know.
    pub expected: Option<&'static str>,
    /// `accepted` or the refusal's reason.
    pub answer: Option<String>,
}

/// A session as the coordinator knows it.
pub struct Session {
    /// The node it was given to.
    pub node: String,
    /// The buyer's token.
    pub token: String,
    /// `sent`, `refused`, or the last transition.
    pub state: String,
    /// Every `open` sent for this id; the first is the session.
    pub opens: Vec<OpenSent>,
    /// Reasons of the closes sent.
    pub closes: Vec<String>,
    /// Transitions in the order they came: name, Unix ms of arrival, body.
    pub transitions: Vec<(String, i64, Json)>,
    /// Bundles by seq.
    pub bundles: Vec<Attested>,
}

impl Session {
    /// A session that was just sent to a node.
    pub fn new(node: &str) -> Session {
        Session {
            node: node.to_owned(),
            token: String::new(),
            state: "sent".to_owned(),
            opens: Vec::new(),
            closes: Vec::new(),
            transitions: Vec::new(),
            bundles: Vec::new(),
        }
    }

    /// Ingress and egress of all bundles, in bytes.
    pub fn carried(&self) -> (i64, i64) {
        (self.sum("bytesIngress"), self.sum("bytesEgress"))
    }

    /// The sum of a member over all bundles.
    pub fn sum(&self, member: &str) -> i64 {
        self.bundles.iter().filter_map(|bundle| bundle.object.int(member)).sum()
    }

    /// The body of a transition that came.
    pub fn transition(&self, name: &str) -> Option<&Json> {
        self.transitions.iter().find(|(known, _, _)| known == name).map(|(_, _, body)| body)
    }

    /// An instant of the session's `open`, in Unix ms.
    pub fn time(&self, member: &str) -> Option<i64> {
        self.opens.first()?.object.str(member).and_then(parse_instant)
    }

    /// For the control API.
    pub fn to_json(&self, id: &str) -> Json {
        let step = |(name, at, body): &(String, i64, Json)| {
            object([
                ("transition", text(name.clone())),
                ("receivedAt", text(instant(*at))),
                ("body", body.clone()),
            ])
        };
        let answer = |sent: &OpenSent| {
            object([
                ("answer", sent.answer.as_deref().map_or(Json::Null, text)),
                ("expected", sent.expected.map_or(Json::Null, text)),
            ])
        };
        let (ingress, egress) = self.carried();
        object([
            ("sessionId", text(id)),
            ("nodeId", text(self.node.clone())),
            ("token", text(self.token.clone())),
            ("state", text(self.state.clone())),
            ("opens", Json::Array(self.opens.iter().map(answer).collect())),
            ("transitions", Json::Array(self.transitions.iter().map(step).collect())),
            (
                "limits",
                self.transition("accepted").and_then(|b| b.member("limits")).cloned().unwrap_or(Json::Null),
            ),
            (
                "totals",
                self.transition("settled").and_then(|b| b.member("totals")).cloned().unwrap_or(Json::Null),
            ),
            ("bundles", Json::Array(self.bundles.iter().map(Attested::to_json).collect())),
            ("bytesIngress", number(ingress)),
            ("bytesEgress", number(egress)),
            ("connections", number(self.sum("connections"))),
            ("rejected", number(self.sum("rejected"))),
        ])
    }
}

impl Coordinator {
    /// `POST /sessions/control`.
    pub(super) fn transition(&mut self, call: &Call, id: &str, now: i64) -> Result<Reply, Reply> {
        let body = self.body(call, id, now, &shapes::TRANSITION)?;
        let session_id = body.str("sessionId").unwrap_or_default().to_owned();
        let name = body.str("transition").unwrap_or_default().to_owned();
        let Some(session) = self.sessions.get(&session_id).filter(|session| session.node == id) else {
            self.breach(
                id,
                Some(&session_id),
                now,
                "Signals open sessions",
                format!("{name} of a session not sent"),
            );
            return Err(Reply::problem(
                404,
                "session-unknown",
                "no open of this session was sent to this node",
            ));
        };
        if session.transitions.iter().any(|(known, _, body_known)| known == &name && *body_known == body) {
            return Ok(Reply::ok(object([])));
        }
        // A node learns of a clock that jumped by its next request, not before.
        let jumped = self.faults.recent(now, 120_000);
        let mut found = if jumped { Found::new() } else { check_instant(&body, session, now) };
        found.extend(check_members(&body, &name));
        found.extend(match name.as_str() {
            "accepted" => check_limits(&body, session),
            "active" => check_active(session, now),
            "closing" => check_closing(&body, session, now),
            "settled" => check_totals(&body, session),
            _ => Vec::new(),
        });
        for (rule, detail) in found {
            self.breach(id, Some(&session_id), now, rule, detail);
        }
        let step = if matches!(name.as_str(), "accepted" | "refused") {
            self.answered(&session_id, &name, &body, now)
        } else {
            self.advance(&session_id, &name, &body, now)
        };
        self.bell.ring();
        step.map(|()| Reply::ok(object([])))
    }

    /// `accepted` and `refused` answer one `open`; only the first open's answer moves the session.
    fn answered(&mut self, session_id: &str, name: &str, body: &Json, now: i64) -> Result<(), Reply> {
        let answer = if name == "accepted" { name } else { body.str("reason").unwrap_or_default() };
        let Some(session) = self.sessions.get_mut(session_id) else { return Ok(()) };
        let first = session.opens.iter().position(|sent| sent.answer.is_none()) == Some(0);
        let meant = |sent: &OpenSent| sent.answer.is_none() && fits(answer, sent.expected);
        let index = session.opens.iter().position(meant);
        let index = index.or_else(|| session.opens.iter().position(|sent| sent.answer.is_none()));
        let Some(sent) = index.and_then(|index| session.opens.get_mut(index)) else {
            let repeated = session.opens.iter().any(|sent| sent.answer.as_deref() == Some(answer));
            if !repeated {
                let detail = format!("{answer} after every open was answered");
                self.breach("", Some(session_id), now, "idempotent on (sessionId, transition)", detail);
            }
            return Ok(());
        };
        sent.answer = Some(answer.to_owned());
        let expected = sent.expected;
        if first && index == Some(0) {
            session.state = name.to_owned();
            session.transitions.push((name.to_owned(), now, body.clone()));
        }
        if !fits(answer, expected) {
            let node = session.node.clone();
            let detail = format!("answered {answer}, expected {}", expected.unwrap_or("accepted"));
            self.breach(&node, Some(session_id), now, "Refusal of an open, the first that applies", detail);
        }
        Ok(())
    }

    fn advance(&mut self, session_id: &str, name: &str, body: &Json, now: i64) -> Result<(), Reply> {
        let Some(session) = self.sessions.get_mut(session_id) else { return Ok(()) };
        let node = session.node.clone();
        if let Some(before) = session.transition(name) {
            let same = ["reason", "totals"].iter().all(|member| before.member(member) == body.member(member));
            if !same {
                let detail = format!("{name} came again as {}", canonical(body));
                self.breach(&node, Some(session_id), now, "idempotent on (sessionId, transition)", detail);
            }
            return Ok(());
        }
        let from = match name {
            "active" => &["accepted"][..],
            "closing" => &["accepted", "active"],
            _ => &["closing"],
        };
        if !from.contains(&session.state.as_str()) {
            let detail = format!("{name} after {}", session.state);
            self.breach(&node, Some(session_id), now, "accepted, active, closing, settled", detail.clone());
            return Err(Reply::problem(409, "transition-order", &detail));
        }
        session.state = name.to_owned();
        session.transitions.push((name.to_owned(), now, body.clone()));
        Ok(())
    }
}

/// What the coordinator cannot judge (the owner's opt-outs, the node's place) is left to the node.
fn fits(answer: &str, expected: Option<&'static str>) -> bool {
    let rank = |slug: &str| shapes::REFUSALS.iter().position(|known| *known == slug);
    match expected {
        None => !["bad-signature", "wrong-node", "malformed"].contains(&answer),
        Some(expected) if answer == expected => true,
        Some(expected) => {
            ["region-denied", "category-denied"].contains(&answer) && rank(answer) < rank(expected)
        }
    }
}

type Found = Vec<(&'static str, String)>;

fn check_instant(body: &Json, session: &Session, now: i64) -> Found {
    let at = body.str("at").and_then(parse_instant).unwrap_or(now);
    let issued = session.time("issuedAt").unwrap_or(at);
    if at > now + 60_000 || (at < issued - 60_000 && at < now - 60_000) {
        let rule = "This corrected clock cuts windows and fills every instant";
        return vec![(rule, format!("at is {} and it is {}", instant(at), instant(now)))];
    }
    Vec::new()
}

fn check_members(body: &Json, name: &str) -> Found {
    let mut found = Found::new();
    let wanted = match name {
        "accepted" => &["limits"][..],
        "refused" | "closing" => &["reason"],
        "settled" => &["totals"],
        _ => &[],
    };
    for member in ["reason", "limits", "totals"] {
        let there = body.member(member).is_some();
        if there != wanted.contains(&member) {
            let problem = if there { "has" } else { "lacks" };
            found.push((
                "accepted carries limits, settled totals, closing its reason",
                format!("{name} {problem} {member}"),
            ));
        }
    }
    let reason = body.str("reason").unwrap_or_default();
    if name == "refused" && !shapes::REFUSALS.contains(&reason) {
        found.push(("Refusal of an open", format!("{reason:?} is not in the list")));
    }
    found
}

/// The owner's own limits of a session are not in any message; the coordinator's are known.
fn check_limits(body: &Json, session: &Session) -> Found {
    let number = |object: Option<&Json>, name: &str| match object?.member(name)? {
        Json::Number(n) => Some(*n),
        _ => None,
    };
    let asked = session.opens.first().and_then(|sent| sent.object.member("limits"));
    let mut found = Found::new();
    for name in shapes::LIMIT_NAMES {
        let given = number(body.member("limits"), name);
        let most = number(asked, name);
        if most.is_some_and(|most| given.is_none_or(|given| given > most)) {
            let detail = format!("{name} is {given:?}, the coordinator's {most:?}");
            found.push(("each effective limit is the lower of owner's and coordinator's", detail));
        }
    }
    found
}

fn check_active(session: &Session, now: i64) -> Found {
    match session.time("notBefore") {
        Some(at) if now < at - 2000 => vec![("active: notBefore has come", format!("{} ms early", at - now))],
        _ => Vec::new(),
    }
}

fn check_closing(body: &Json, session: &Session, now: i64) -> Found {
    let reason = body.str("reason").unwrap_or_default();
    let expires = session.time("expiresAt").unwrap_or(now);
    let detail = if CLOSE_REASONS.contains(&reason) {
        let sent = session.closes.iter().any(|close| close == reason);
        (!sent).then(|| format!("no close with reason {reason} was sent"))
    } else if reason == "expired" {
        (now < expires - 2000).then(|| format!("expired {} ms before expiresAt", expires - now))
    } else {
        (!OWN_REASONS.contains(&reason)).then(|| format!("reason {reason:?}"))
    };
    detail
        .map(|detail| ("closing.reason: the close's own, or expired|quota|stopped|quarantined|wiped", detail))
        .into_iter()
        .collect()
}

/// The totals of a settled session against its bundles.
pub(super) fn check_totals(body: &Json, session: &Session) -> Found {
    let Some(totals) = body.member("totals") else { return Found::new() };
    let mut found = Found::new();
    for member in ["bytesIngress", "bytesEgress", "connections", "rejected"] {
        let (said, sum) = (totals.int(member), session.sum(member));
        if said != Some(sum) {
            let detail = format!("totals.{member} is {said:?}, the bundles have {sum}");
            found.push(("the sum of bundles equals totals", detail));
        }
    }
    let count = i64::try_from(session.bundles.len()).unwrap_or(i64::MAX);
    if totals.int("bundles") != Some(count) {
        let detail = format!("totals.bundles is {:?}, {count} were answered", totals.int("bundles"));
        found.push(("settled comes after every bundle was answered", detail));
    }
    let last = session.last_hash();
    if totals.str("lastHash") != Some(&last) {
        found.push((
            "lastHash: what the next prevHash would be",
            format!("{:?}, not {last}", totals.str("lastHash")),
        ));
    }
    if count == 0 && session.transition("active").is_some() {
        found.push(("a session without traffic has one bundle of zeros", "no bundle came".to_owned()));
    }
    found
}

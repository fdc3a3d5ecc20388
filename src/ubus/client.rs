//! A client with one object: from the greeting of ubusd to calls and their answers. It starts anew with each connection.
use super::blob::{self, Malformed};
use super::message::{self, Message, Status, attribute as at};
use crate::json::Value;
use std::time::Duration;

/// Number of the object that takes events (`UBUS_SYSTEM_OBJECT_EVENT`).
const EVENTS: u32 = 1;
/// Our own request that adds the object; those of events follow.
const ADD: u16 = 1;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between tries: a router without ubusd must not be woken for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// The type of an argument, as it is told to whoever asks for the object's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A table.
    Table,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
}

impl Type {
    fn number(self) -> u8 {
        match self {
            Type::Table => blob::TABLE,
            Type::String => blob::STRING,
            Type::Integer => blob::INT32,
            Type::Boolean => blob::BOOL,
        }
    }
}

/// An argument's name and type.
pub type Argument = (&'static str, Type);
/// A method's name and arguments.
pub type Signature = (&'static str, &'static [Argument]);

/// Somebody calls a method of the object.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// Which call this is, for its answer.
    pub call: Call,
    /// The method's name; ubusd has not looked at it.
    pub method: String,
    /// The arguments, an object, or what is wrong with them; ubusd has not looked at them.
    pub arguments: Result<Value, Malformed>,
}

/// What an answer has to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    seq: u16,
    peer: u32,
    /// The caller does not wait.
    silent: bool,
}

/// What has happened on the bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The object is there.
    Registered,
    /// ubusd does not take the object: its status.
    Refused(u32),
    /// A method is called.
    Invoked(Invocation),
    /// ubusd does not take an event: its status.
    EventRefused(u32),
}

/// The connection's state.
#[derive(Debug)]
pub struct Client {
    path: &'static str,
    methods: Vec<Signature>,
    state: State,
    seq: u16,
    received: Vec<u8>,
    outgoing: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been heard.
    Silent,
    /// The object has been sent, and has no number yet.
    Adding,
    /// ubusd has given the number; its status is still to come.
    Numbered(u32),
    Registered(u32),
}

impl Client {
    /// A client that will have an object at `path`.
    pub fn new(path: &'static str, methods: Vec<Signature>) -> Client {
        let (received, outgoing) = (Vec::new(), Vec::new());
        Client { path, methods, state: State::Silent, seq: ADD, received, outgoing }
    }

    /// Takes what the socket gave.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next event of what was received. It is to be called, and what is outgoing sent, until there is none.
    ///
    /// # Errors
    /// What no ubusd says; the connection is to be given up.
    pub fn poll(&mut self) -> Result<Option<Event>, Malformed> {
        let received = std::mem::take(&mut self.received);
        let mut used = 0;
        let mut event = Ok(None);
        while let Ok(None) = event {
            let rest = received.get(used..).unwrap_or_default();
            event = match message::first(rest) {
                Ok(None) => break,
                Ok(Some((message, length))) => {
                    used += length;
                    self.take(&message)
                }
                Err(e) => Err(e),
            };
        }
        self.received = received;
        self.received.drain(..used.min(self.received.len()));
        self.received.shrink_to(8192);
        event
    }

    /// What is to be sent now.
    pub fn outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Whether the object is there.
    pub fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered(_))
    }

    /// Answers a call.
    ///
    /// # Errors
    /// The body is larger than the bus carries: nothing has been answered.
    pub fn answer(&mut self, call: Call, status: Status, body: Option<&Value>) -> Result<(), TooLarge> {
        let State::Registered(object) = self.state else { return Ok(()) };
        if call.silent {
            return Ok(());
        }
        if let Some(members) = body.and_then(Value::as_object) {
            let data = message::write(message::DATA, call.seq, call.peer, |out| {
                message::put_u32(out, at::OBJECT, object);
                message::put_data(out, members);
            });
            if !message::fits(&data) {
                return Err(TooLarge);
            }
            self.outgoing.extend(data);
        }
        // Without the object's number ubusd drops it, and the caller waits in vain.
        self.outgoing.extend(message::write(message::STATUS, call.seq, call.peer, |out| {
            message::put_u32(out, at::STATUS, status as u32);
            message::put_u32(out, at::OBJECT, object);
        }));
        Ok(())
    }

    /// Sends an event to whoever listens.
    ///
    /// # Errors
    /// It is larger than the bus carries.
    pub fn send(&mut self, id: &str, data: &Value) -> Result<(), TooLarge> {
        if !self.is_registered() {
            return Ok(());
        }
        self.seq = self.seq.checked_add(1).unwrap_or(ADD + 1);
        let members = [("id".to_owned(), id.into()), ("data".to_owned(), data.clone())];
        let event = message::write(message::INVOKE, self.seq, EVENTS, |out| {
            message::put_u32(out, at::OBJECT, EVENTS);
            message::put_text(out, at::METHOD, "send");
            message::put_data(out, &members);
        });
        if !message::fits(&event) {
            return Err(TooLarge);
        }
        self.outgoing.extend(event);
        Ok(())
    }

    fn take(&mut self, message: &Message<'_>) -> Result<Option<Event>, Malformed> {
        match (self.state, message.kind) {
            (State::Silent, message::HELLO) => {
                self.state = State::Adding;
                self.outgoing.extend(self.addition());
                Ok(None)
            }
            (State::Silent, _) => Err(Malformed("ubusd does not greet")),
            (State::Adding, message::DATA) if message.seq == ADD => {
                let number = message.u32(at::OBJECT)?.ok_or(Malformed("ubusd gives no number"))?;
                self.state = State::Numbered(number);
                Ok(None)
            }
            (_, message::STATUS) => self.status(message),
            (State::Numbered(object) | State::Registered(object), message::INVOKE) => {
                self.invoked(message, object).map(Some)
            }
            // Who subscribes, answers to events, and what later versions may say.
            _ => Ok(None),
        }
    }

    fn status(&mut self, message: &Message<'_>) -> Result<Option<Event>, Malformed> {
        let status = message.u32(at::STATUS)?.ok_or(Malformed("a status has no number"))?;
        Ok(match self.state {
            State::Numbered(object) if message.seq == ADD && status == 0 => {
                self.state = State::Registered(object);
                Some(Event::Registered)
            }
            State::Adding | State::Numbered(_) if message.seq == ADD => Some(Event::Refused(status)),
            State::Registered(_) if status != 0 => Some(Event::EventRefused(status)),
            _ => None,
        })
    }

    fn invoked(&self, message: &Message<'_>, object: u32) -> Result<Event, Malformed> {
        if message.u32(at::OBJECT)? != Some(object) {
            return Err(Malformed("another object is called"));
        }
        let method = message.find(at::METHOD)?.ok_or(Malformed("a call names no method"))?;
        // Who calls without arguments may leave them out.
        let arguments = blob::read_members(message.find(at::DATA)?.unwrap_or_default());
        let silent = message.find(at::NO_REPLY)?.is_some_and(|flag| flag != [0]);
        let call = Call { seq: message.seq, peer: message.peer, silent };
        let method = blob::text(method).unwrap_or_default().to_owned();
        Ok(Event::Invoked(Invocation { call, method, arguments }))
    }

    fn addition(&self) -> Vec<u8> {
        message::write(message::ADD_OBJECT, ADD, 0, |out| {
            message::put_text(out, at::PATH, self.path);
            blob::put(out, at::SIGNATURE, |out| {
                for (method, arguments) in &self.methods {
                    blob::put_named(out, blob::TABLE, method, |out| {
                        for (name, kind) in *arguments {
                            blob::put_value(out, name, &i32::from(kind.number()).into());
                        }
                    });
                }
            });
        })
    }
}

/// A message is over the bus's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The pauses between connections: ever longer while none comes to stand.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Backoff {
    /// At the start.
    pub fn new() -> Backoff {
        Backoff(FIRST_PAUSE)
    }

    /// A connection stood: the next pause is short.
    pub fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    /// How long to wait before the next try.
    pub fn pause(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST_PAUSE);
        now
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests;

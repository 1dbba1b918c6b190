//! A proxy that breaks what goes through it, as told: between a client under test and a server, in the test's own process.
//!
//! It understands as much of HTTP/1.1 as it needs to tell requests apart. Requests and answers are held whole and passed on
//! byte for byte, so that signatures hold: the client signs the proxy's address as `host`, and servers verify what was sent.
//! Rules are asked in order, for each request; the first that applies decides. Everything ends when the [`Proxy`] is dropped.

mod connection;
mod message;
mod tests;

use connection::Connection;
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be done to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The connection ends before the server has seen the request.
    DropBefore,
    /// The server has done what it was asked, and the connection ends without an answer.
    DropAfter,
    /// The connection ends in the middle of the answer's body.
    DropInBody,
    /// The server does not see the request, nothing moves any more, and the connection stays.
    Stall,
    /// Nothing moves any more from the middle of the answer's body on, and the connection stays.
    StallInBody,
    /// The server does not see the request; the answer is 500 `InternalServerException`.
    InternalError,
    /// The server does not see the request; the answer is 503 `ServiceUnavailable`.
    Unavailable,
    /// The server does not see the request; the answer is `ThrottlingException`, and to come again after 20 ms.
    Throttled,
    /// The server does not see the request; the answer is `RequestThrottledException`, and to come again after 20 ms.
    SnapshotThrottled,
    /// The server does not see the request; the answer is a validation error that is worth a retry (SPEC 5.5).
    BodyNotRead,
    /// The server does not see the request; the answer is that the block token is invalid, as when it has expired.
    TokenExpired,
    /// One bit in the middle of the request's body is another; requests without a body are left alone.
    CorruptRequest,
    /// One bit in the middle of the answer's body is another; answers without a body are left alone.
    CorruptAnswer,
    /// The answer offers no extensions, as AWS's do not.
    NoExtensions,
    /// Request and answer move at this many bytes a second.
    Slow(u32),
}

/// Which requests: method and path, each part of which may be `*` for anything, and the last `**` for any rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct On(pub &'static str, pub &'static str);

impl On {
    pub const ANY: On = On("*", "/**");
    pub const START: On = On("POST", "/snapshots");
    pub const PUT: On = On("PUT", "/snapshots/*/blocks/*");
    pub const GET: On = On("GET", "/snapshots/*/blocks/*");
    pub const COMPLETE: On = On("POST", "/snapshots/completion/*");
    pub const LIST: On = On("GET", "/snapshots/*/blocks");
    pub const LIST_CHANGED: On = On("GET", "/snapshots/*/changedblocks");
    /// EC2 and STS.
    pub const QUERY: On = On("POST", "/");

    fn matches(self, method: &str, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        let mut parts = path.split('/');
        if self.0 != "*" && self.0 != method {
            return false;
        }
        for wanted in self.1.split('/') {
            if wanted == "**" {
                return true;
            }
            match parts.next() {
                Some(part) if wanted == "*" || wanted == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

/// When a fault happens, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    on: On,
    fault: Fault,
    skip: u64,
    times: u64,
    /// Of a request, in 65,536ths.
    chance: u32,
}

impl Rule {
    /// Always.
    pub fn new(on: On, fault: Fault) -> Rule {
        Rule {
            on,
            fault,
            skip: 0,
            times: u64::MAX,
            chance: 1 << 16,
        }
    }

    /// Not before so many requests have matched.
    pub fn skip(self, skip: u64) -> Rule {
        Rule { skip, ..self }
    }

    /// At most so often.
    pub fn times(self, times: u64) -> Rule {
        Rule { times, ..self }
    }

    /// Only with this probability, drawn from the proxy's seed.
    pub fn chance(self, probability: f64) -> Rule {
        Rule {
            chance: (probability * 65_536.0) as u32,
            ..self
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body_bytes: u64,
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a server, on a free port.
    pub fn start(server: SocketAddr, rules: impl Into<Vec<Rule>>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared {
            server,
            stopping: AtomicBool::new(false),
            state: Mutex::new(State::new(rules.into())),
            changed: Condvar::new(),
            open: Mutex::default(),
            ids: AtomicU64::new(0),
        });
        let for_them = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_them.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&for_them);
                thread::spawn(move || Connection::serve(&shared, stream));
            }
        });
        Proxy {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// What the client takes for the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Other rules from now on; what was counted stays.
    pub fn set(&self, rules: impl Into<Vec<Rule>>) {
        let mut state = self.shared.state();
        state.applied = rules.into().into_iter().map(Applied::from).collect();
    }

    /// How often a fault was applied.
    pub fn count(&self, fault: Fault) -> u64 {
        self.shared.state().count(fault)
    }

    /// Faults of every kind.
    pub fn faults(&self) -> u64 {
        self.shared.state().counts.values().sum()
    }

    /// The requests that came and match, repeats included, in order.
    pub fn seen(&self, on: On) -> Vec<Seen> {
        let state = self.shared.state();
        let matching = |seen: &&Seen| on.matches(&seen.method, &seen.target);
        state.seen.iter().filter(matching).cloned().collect()
    }

    /// How many of them.
    pub fn calls(&self, on: On) -> u64 {
        self.seen(on).len() as u64
    }

    /// Waits until a fault was applied so often.
    pub fn wait_for(&self, fault: Fault, times: u64) {
        let state = self.shared.state();
        let (_state, late) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.count(fault) < times)
            .expect("nobody panics with the lock");
        assert!(!late.timed_out(), "{fault:?} did not happen {times} times");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // What wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct Shared {
    server: SocketAddr,
    stopping: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// Both ends of every connection, to be cut at the end.
    open: Mutex<HashMap<u64, TcpStream>>,
    ids: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().expect("nobody panics with the lock")
    }

    /// Notes a request, and what is to be done to it.
    fn decide(&self, seen: Seen, has_body: bool) -> Option<Fault> {
        self.state().decide(seen, has_body)
    }

    /// Notes that a fault was applied.
    fn applied(&self, fault: Fault) {
        *self.state().counts.entry(fault).or_default() += 1;
        self.changed.notify_all();
    }

    fn register(&self, stream: &TcpStream) -> Option<u64> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, stream.try_clone().ok()?);
        // Whoever comes after everything was cut cuts itself.
        (!self.stopping.load(Ordering::SeqCst)).then_some(id)
    }

    fn unregister(&self, id: u64) {
        self.open().remove(&id);
    }
}

struct State {
    applied: Vec<Applied>,
    counts: HashMap<Fault, u64>,
    seen: Vec<Seen>,
}

struct Applied {
    rule: Rule,
    matched: u64,
    done: u64,
}

impl From<Rule> for Applied {
    fn from(rule: Rule) -> Applied {
        Applied {
            rule,
            matched: 0,
            done: 0,
        }
    }
}

impl State {
    fn new(rules: Vec<Rule>) -> State {
        State {
            applied: rules.into_iter().map(Applied::from).collect(),
            counts: HashMap::new(),
            seen: Vec::new(),
        }
    }

    fn count(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).copied().unwrap_or_default()
    }

    fn decide(&mut self, seen: Seen, has_body: bool) -> Option<Fault> {
        let mut decided = None;
        for (number, applied) in self.applied.iter_mut().enumerate() {
            let rule = applied.rule;
            let fits = rule.on.matches(&seen.method, &seen.target)
                && (has_body || rule.fault != Fault::CorruptRequest);
            if !fits {
                continue;
            }
            applied.matched += 1;
            let drawn = mixed(number as u64, applied.matched) & 0xffff;
            if applied.matched > rule.skip
                && applied.done < rule.times
                && drawn < u64::from(rule.chance)
            {
                applied.done += 1;
                decided = Some(rule.fault);
                break;
            }
        }
        self.seen.push(seen);
        decided
    }
}

/// A fixed seed: the n-th request of a rule always draws the same.
fn mixed(rule: u64, count: u64) -> u64 {
    let mut value = (rule + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(count.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    value ^= value >> 30;
    value = value.wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 29)
}

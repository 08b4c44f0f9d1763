//! A Vobiz to develop against: its CDR API, its signed callbacks, and its faults on demand. It knows the rest of this
//! crate only over HTTP, and signs and prints with code of its own, so that it tests ours instead of repeating it.
//! What it does rests on the vendor's documentation and on captured traffic; where these disagree, an option chooses.
//!
//! Promise: everything drawn (ids, numbers, causes, durations, costs, nonces, faults) follows from [`SimulatorOptions::seed`]
//! and the sequence of calls placed; times come from the [`CallSpec`], else from the clock. Money is decimal
//! throughout. A CDR can be fetched and listed from one and the same instant on.
//!
//! Time: when a CDR appears and a cost is revised goes by Vobiz's clock, which runs with ours, ahead of it where told so, and
//! which [`Simulator::advance`] moves on. Rate limits, latency and the timeout of callbacks are real.

mod answer;
mod api;
mod call;
mod callback;
mod cdr;
mod deliver;
mod draw;
mod fault;
mod list;
mod odd;
mod options;
mod server;
pub mod sign;
mod stats;
mod traffic;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use hyper::http::{Request, StatusCode};
use rust_decimal::Decimal;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::answer::{Answer, RetryAfter};
pub use self::call::{Call, CallKind, CallSpec, Direction, Word};
pub use self::callback::{CallbackKind, body as callback_body, form};
pub use self::deliver::{Delivery, Undelivered};
pub use self::fault::Faults;
pub use self::odd::Odd;
pub use self::options::{
    Casing, DayOf, ListFaults, SimulatedAccount, SimulatorOptions, SummaryCost, SummaryCurrencies,
};
pub use self::stats::{AccountStats, RequestKind, Stats};
pub use self::traffic::{Traffic, TrafficProgress, TrafficSummary};

use self::world::World;

/// A running Vobiz. Clones are handles to the same one; it ends with the last of them.
#[derive(Clone)]
pub struct Simulator {
    world: Arc<World>,
    address: SocketAddr,
    stop: CancellationToken,
    server: TaskTracker,
    _stop_with_us: Arc<DropGuard>,
}

/// What really happened in one call: what a copy of the CDRs is measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The id.
    pub call_id: String,
    /// The owner.
    pub account_id: String,
    /// Inbound or outbound.
    pub direction: Direction,
    /// Start of ringing, in whole seconds as the CDR has it.
    pub started_at: DateTime<Utc>,
    /// Seconds talked.
    pub billsec: u32,
    /// As it was at the moment asked for: a cost may have changed since the call was placed.
    pub total_cost: Decimal,
    /// The currency of the cost.
    pub currency: String,
    /// Why it ended.
    pub hangup_cause: String,
    /// Whether a hang-up callback was answered 200, by now.
    pub acknowledged: bool,
    /// Whether the CDR could be fetched at that moment.
    pub appeared: bool,
}

impl Simulator {
    /// Starts listening on the current runtime.
    pub async fn start(options: SimulatorOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(256)
            .build()
            .map_err(io::Error::other)?;
        let world = Arc::new(World::new(options, http));
        let (stop, server) = (CancellationToken::new(), TaskTracker::new());
        server.spawn(server::run(listener, Arc::clone(&world), stop.clone()));
        server.close();
        let guard = Arc::new(stop.clone().drop_guard());
        Ok(Self { world, address, stop, server, _stop_with_us: guard })
    }

    /// The base of the API, without a final slash: `http://127.0.0.1:41234`.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening, and cuts every open connection.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.server.wait().await;
    }

    /// Vobiz's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.world.now()
    }

    /// Moves Vobiz's clock forward: all that becomes true within that time is true at once. A clock never goes back.
    pub fn advance(&self, by: TimeDelta) {
        self.world.advance(by);
    }

    /// From now on the `Date` header of each answer is off by so many seconds, as that of a machine whose own clock is wrong; the times of
    /// calls are right.
    pub fn set_date_off(&self, seconds: i32) {
        self.world.set_date_off(seconds);
    }

    /// Makes a finished call; its CDR appears when the options, the faults and the spec let it.
    pub fn place_call(&self, spec: CallSpec) -> Call {
        self.world.place(spec)
    }

    /// The callback as a request, for a test that has no socket.
    pub fn callback_request(&self, call: &Call, kind: CallbackKind) -> Result<Request<Bytes>, Undelivered> {
        deliver::request(&self.world, call, kind)
    }

    /// Sends a callback once.
    pub async fn send_callback(&self, call: &Call, kind: CallbackKind) -> Result<StatusCode, Undelivered> {
        deliver::once(&self.world, call, kind).await
    }

    /// Sends a callback as Vobiz does: a voice callback up to three times more unless it is answered 200 within
    /// 3 s, a trunk webhook once.
    pub async fn deliver(&self, call: &Call, kind: CallbackKind) -> Result<Delivery, Undelivered> {
        deliver::deliver(&self.world, call, kind).await
    }

    /// Sends any form, signed as this account's voice callback: `DialHangup`, say.
    pub async fn send_form(&self, auth_id: &str, fields: &[(&str, &str)]) -> Result<StatusCode, Undelivered> {
        // Nonces follow from the count of callbacks, in a stream that no call uses.
        let nth = self.world.lock().stats.callbacks_sent;
        let body = callback::form(fields.to_vec());
        let request = deliver::voice(&self.world, auth_id, u64::MAX - nth, 0, body)?;
        deliver::send(&self.world, request, false).await
    }

    /// Places calls at a pace and announces each, while `progress` counts along.
    pub async fn run(&self, traffic: &Traffic, progress: &Arc<TrafficProgress>) -> TrafficSummary {
        traffic::run(&self.world, traffic, progress).await
    }

    /// Announces the end of a call as traffic does: not at all if that callback is to be lost, twice if it is to be doubled.
    pub async fn announce(&self, call: &Call, progress: &TrafficProgress) {
        traffic::announce(&self.world, call, false, progress).await;
    }

    /// Answers the next fetches of this call so, one each, then as usual. The call need not exist yet.
    pub fn script(&self, call_id: &str, answers: impl IntoIterator<Item = Answer>) {
        self.world.lock().scripts.entry(call_id.to_owned()).or_default().extend(answers);
    }

    /// Answers every request of this account so, lists included, until told otherwise: an outage.
    pub fn script_account(&self, auth_id: &str, answer: Option<Answer>) {
        if let Some(login) = self.world.lock().logins.get_mut(auth_id) {
            login.all_answer = answer;
        }
    }

    /// Answers every fetch of this account so until told otherwise, while its lists work.
    pub fn script_fetches(&self, auth_id: &str, answer: Option<Answer>) {
        if let Some(login) = self.world.lock().logins.get_mut(auth_id) {
            login.fetches_answer = answer;
        }
    }

    /// Refuses this page of all lists of the account with 400, however many rows it is to have, until told otherwise.
    pub fn refuse_page(&self, auth_id: &str, page: Option<usize>) {
        if let Some(login) = self.world.lock().logins.get_mut(auth_id) {
            login.refused_page = page;
        }
    }

    /// Gives an account another token, for requests and signatures; the old one stops at once.
    pub fn set_token(&self, auth_id: &str, token: &str) {
        if let Some(login) = self.world.lock().logins.get_mut(auth_id) {
            token.clone_into(&mut login.token);
        }
    }

    /// Sends voice callbacks to this URL from now on.
    pub fn set_callback_url(&self, url: &str) {
        self.world.lock().callback_url = Some(url.to_owned());
    }

    /// Sends voice callbacks here, still signed for the callback URL.
    pub fn set_callback_sent_to(&self, url: &str) {
        self.world.lock().callback_sent_to = Some(url.to_owned());
    }

    /// Sends trunk webhooks to this URL from now on.
    pub fn set_trunk_url(&self, url: &str) {
        self.world.lock().trunk_url = Some(url.to_owned());
    }

    /// Changes a call after the fact, all but its id and owner; `updated_at` moves by at least a second unless the
    /// change sets it. `None` when there is no such call. The change must not ask this simulator anything: it would
    /// wait for itself.
    pub fn revise(&self, call_id: &str, change: impl FnOnce(&mut Call)) -> Option<Call> {
        let mut state = self.world.lock();
        let now = self.world.now();
        self.world.tick(&mut state, now);
        self.world.revise(&mut state, call_id, now, change)
    }

    /// Takes the CDR of a call away, from its fetches and all lists, for good. False when there is no such call.
    pub fn forget(&self, call_id: &str) -> bool {
        let mut state = self.world.lock();
        let now = self.world.now();
        self.world.tick(&mut state, now);
        self.world.forget(&mut state, call_id, now)
    }

    /// The counters as they are now. A copy: it grows with the number of calls fetched.
    pub fn stats(&self) -> Stats {
        self.world.lock().stats.clone()
    }

    /// Every call, in the order of placing.
    pub fn calls(&self) -> Vec<Truth> {
        self.truth(None)
    }

    /// Every call whose CDR could be fetched at an earlier instant of Vobiz's clock, as it was then, in the order of placing.
    pub fn truth_at(&self, instant: DateTime<Utc>) -> Vec<Truth> {
        self.truth(Some(instant)).into_iter().filter(|truth| truth.appeared).collect()
    }

    fn truth(&self, instant: Option<DateTime<Utc>>) -> Vec<Truth> {
        let mut state = self.world.lock();
        let now = self.world.now();
        self.world.tick(&mut state, now);
        let instant = instant.unwrap_or(now);
        let mut entries: Vec<_> = state.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.row.call.sequence);
        let truth = |entry: &world::WorldCall| {
            let row = entry.row_at(instant);
            let call = &row.call;
            Truth {
                call_id: call.call_id.clone(),
                account_id: call.account_id.clone(),
                direction: call.direction,
                started_at: call.started_at.trunc_subsecs(0),
                billsec: call.billsec,
                total_cost: call.total_cost(),
                currency: call.currency.to_string(),
                hangup_cause: call.hangup_cause.to_string(),
                acknowledged: entry.acknowledged,
                appeared: row.visible(instant),
            }
        };
        entries.into_iter().map(truth).collect()
    }
}

//! The state behind one simulated Vobiz: who may ask, which calls there are, what is scripted for them. One lock holds
//! it all, taken for short; rendering and sending happen outside. Promise: what becomes true with time (a CDR appears,
//! a cost is revised) is true for everybody from the same instant of Vobiz's clock, which a test may move forward; and what
//! was true at an earlier instant can still be said.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::answer::Answer;
use super::call::{Call, CallSpec};
use super::draw::{self, DrawSettings, Purpose};
use super::list::Book;
use super::options::SimulatorOptions;
use super::stats::{Stats, Window};

/// A call and the instant from which its CDR exists; `None` is never.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) call: Call,
    pub(super) appears_at: Option<DateTime<Utc>>,
}

impl Row {
    pub(super) fn visible(&self, now: DateTime<Utc>) -> bool {
        self.appears_at.is_some_and(|at| at <= now)
    }
}

/// What a call was before it changed.
struct Earlier {
    row: Arc<Row>,
    /// From here on it was something else.
    until: DateTime<Utc>,
}

pub(super) struct WorldCall {
    pub(super) row: Arc<Row>,
    /// Oldest first.
    earlier: Vec<Earlier>,
    pub(super) lost_callback: bool,
    pub(super) duplicated_callback: bool,
    pub(super) acknowledged: bool,
    /// Callbacks prepared so far; each has nonces of its own.
    pub(super) deliveries: u32,
}

impl WorldCall {
    /// The row as it was then.
    pub(super) fn row_at(&self, instant: DateTime<Utc>) -> &Row {
        let earlier = self.earlier.iter().find(|earlier| instant < earlier.until);
        earlier.map_or(&*self.row, |earlier| &*earlier.row)
    }

    /// Puts another row in its place; returns the one before.
    fn turn(&mut self, row: Arc<Row>, at: DateTime<Utc>) -> Arc<Row> {
        let before = std::mem::replace(&mut self.row, row);
        self.earlier.push(Earlier { row: Arc::clone(&before), until: at });
        before
    }
}

#[derive(Default)]
pub(super) struct Login {
    pub(super) token: String,
    pub(super) parent: Option<String>,
    pub(super) all_answer: Option<Answer>,
    pub(super) fetches_answer: Option<Answer>,
    /// A page of its lists that is refused.
    pub(super) refused_page: Option<usize>,
    /// Every request, for the statistics.
    pub(super) asked: Window,
    /// Those within the rate limit.
    pub(super) served: Window,
    pub(super) book: Book,
}

#[derive(Default)]
pub(super) struct WorldState {
    pub(super) logins: BTreeMap<String, Login>,
    pub(super) entries: HashMap<String, WorldCall>,
    pub(super) scripts: HashMap<String, VecDeque<Answer>>,
    pub(super) in_flight: HashMap<String, u32>,
    pub(super) stats: Stats,
    pub(super) callback_url: Option<String>,
    pub(super) callback_sent_to: Option<String>,
    pub(super) trunk_url: Option<String>,
    cost_changes: BTreeMap<(DateTime<Utc>, u64), String>,
    owners: Vec<(String, String)>,
    sequence: u64,
    throttles: usize,
}

pub(super) struct World {
    pub(super) options: SimulatorOptions,
    pub(super) http: reqwest::Client,
    /// What Vobiz's clock is ahead of ours, in microseconds.
    ahead: AtomicI64,
    /// By how many seconds the `Date` header is off that clock.
    date_off: AtomicI64,
    state: Mutex<WorldState>,
}

impl World {
    pub(super) fn new(options: SimulatorOptions, http: reqwest::Client) -> Self {
        let mut state = WorldState {
            callback_url: options.callback_url.clone(),
            callback_sent_to: options.callback_sent_to.clone(),
            trunk_url: options.trunk_url.clone(),
            ..WorldState::default()
        };
        for account in &options.accounts {
            if let Some((id, token)) = &account.parent {
                let parent = Login { token: token.clone(), ..Login::default() };
                state.logins.entry(id.clone()).or_insert(parent);
            }
        }
        for account in &options.accounts {
            let parent = account.parent.as_ref().map(|(id, _)| id.clone());
            if !account.auth_id.starts_with("PA_") {
                let above = parent.clone().unwrap_or_else(|| account.auth_id.clone());
                state.owners.push((account.auth_id.clone(), above));
            }
            let login = Login { token: account.auth_token.clone(), parent, ..Login::default() };
            state.logins.insert(account.auth_id.clone(), login);
        }
        let ahead = AtomicI64::new(options.clock_ahead.saturating_mul(1_000_000));
        Self { options, http, ahead, date_off: AtomicI64::new(0), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WorldState> {
        // A test that panicked while holding the lock has failed already; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Vobiz's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        DateTime::<Utc>::from(SystemTime::now()) + self.ahead()
    }

    fn ahead(&self) -> TimeDelta {
        TimeDelta::microseconds(self.ahead.load(Ordering::Relaxed))
    }

    /// Vobiz's clock for the `Date` header; `None` where it is ours.
    pub(super) fn date(&self) -> Option<SystemTime> {
        let off = TimeDelta::seconds(self.date_off.load(Ordering::Relaxed));
        (!(self.ahead() + off).is_zero()).then(|| (self.now() + off).into())
    }

    /// The `Date` header alone is off by so many seconds.
    pub(super) fn set_date_off(&self, seconds: i32) {
        self.date_off.store(seconds.into(), Ordering::Relaxed);
    }

    /// Moves Vobiz's clock forward.
    pub(super) fn advance(&self, by: TimeDelta) {
        let by = by.num_microseconds().unwrap_or(i64::MAX).max(0);
        let moved = |ahead: i64| Some(ahead.saturating_add(by));
        // The closure never declines.
        let _always = self.ahead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    /// Draws a call, and puts its CDR where it will be found in time.
    pub(super) fn place(&self, spec: CallSpec) -> Call {
        let mut state = self.lock();
        let state = &mut *state;
        let now = self.now();
        let sequence = state.sequence;
        state.sequence += 1;
        let appears_after = spec.appears_after;
        let setting = DrawSettings { seed: self.options.seed, sequence, now, accounts: &state.owners };
        let mut call = draw::draw(spec, &setting);
        let mut numbers = draw::numbers(self.options.seed, sequence, Purpose::Faults);
        let drawn = self.options.faults.draw(&mut numbers, &mut state.throttles);
        call.unprintable |= drawn.unprintable;
        if drawn.other_currency {
            call.currency = "USD".into();
        }
        for (odd, nth) in &drawn.odd {
            odd.apply(&mut call, *nth);
        }
        if call.announced_as.is_none() {
            let upper_case = drawn.upper_case_id.then(|| call.call_id.to_uppercase());
            call.announced_as = drawn.no_id.map(str::to_owned).or(upper_case);
        }

        let wait = appears_after.unwrap_or_else(|| {
            let due = call.ended_at - now + TimeDelta::from_std(self.options.cdr_delay).unwrap_or_default();
            due.to_std().unwrap_or_default().saturating_add(drawn.late_by.unwrap_or_default())
        });
        // What is further off than a clock can say is never.
        let later =
            |at: DateTime<Utc>, wait: Duration| at.checked_add_signed(TimeDelta::from_std(wait).ok()?);
        let appears_at = later(now, wait);
        let revised_at = appears_at.zip(drawn.revised_after).and_then(|(at, after)| later(at, after));
        if let Some(at) = revised_at {
            state.cost_changes.insert((at, sequence), call.call_id.clone());
        }
        if !drawn.script.is_empty() {
            state.scripts.entry(call.call_id.clone()).or_default().extend(drawn.script);
        }
        let mut entry = WorldCall {
            row: Arc::new(Row { call: call.clone(), appears_at }),
            earlier: Vec::new(),
            lost_callback: drawn.lost_callback,
            duplicated_callback: drawn.duplicated_callback,
            acknowledged: false,
            deliveries: 0,
        };
        let row = Arc::clone(&entry.row);
        if let Some(mut replaced) = state.entries.remove(&call.call_id) {
            let before = replaced.turn(Arc::clone(&row), now);
            entry.earlier = replaced.earlier;
            self.shelve(state, Some(&before), None, now);
        }
        state.entries.insert(call.call_id.clone(), entry);
        self.shelve(state, None, Some(&row), now);
        call
    }

    /// Replaces a row in every list that shows it.
    fn shelve(
        &self,
        state: &mut WorldState,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
        now: DateTime<Utc>,
    ) {
        let Some(call) = new.or(old).map(|row| &row.call) else { return };
        let (owner, parent) = (call.account_id.clone(), call.parent_id.clone());
        for (id, login) in &mut state.logins {
            let shown =
                *id == owner || id.starts_with("PA_") || (self.options.parent_sees_subs && *id == parent);
            if shown {
                login.book.replace(old, new, now, self.options.summary());
            }
        }
    }

    /// Changes a call from an instant on; `updated_at` moves unless the change moves it itself.
    pub(super) fn revise(
        &self,
        state: &mut WorldState,
        call_id: &str,
        at: DateTime<Utc>,
        change: impl FnOnce(&mut Call),
    ) -> Option<Call> {
        let entry = state.entries.get_mut(call_id)?;
        let old = Arc::clone(&entry.row);
        let mut call = old.call.clone();
        change(&mut call);
        // Id and owner are a call's place in every index here.
        call.call_id.clone_from(&old.call.call_id);
        call.account_id.clone_from(&old.call.account_id);
        call.parent_id.clone_from(&old.call.parent_id);
        if call.updated_at == old.call.updated_at {
            // Whole seconds on the wire: a revision within the second of the last one must still look newer.
            call.updated_at = at.max(old.call.updated_at + TimeDelta::seconds(1));
        }
        let row = Arc::new(Row { call: call.clone(), appears_at: old.appears_at });
        entry.turn(Arc::clone(&row), at);
        self.shelve(state, Some(&old), Some(&row), at);
        Some(call)
    }

    /// Takes a call's CDR away for good, from an instant on; false if there is no such call.
    pub(super) fn forget(&self, state: &mut WorldState, call_id: &str, at: DateTime<Utc>) -> bool {
        let Some(entry) = state.entries.get_mut(call_id) else { return false };
        let row = Arc::new(Row { call: entry.row.call.clone(), appears_at: None });
        let old = entry.turn(Arc::clone(&row), at);
        self.shelve(state, Some(&old), Some(&row), at);
        true
    }

    /// Makes true what has become due, each from the instant at which it was.
    pub(super) fn tick(&self, state: &mut WorldState, now: DateTime<Utc>) {
        while let Some(due) = state.cost_changes.first_entry().filter(|first| first.key().0 <= now) {
            let (at, _) = *due.key();
            let call_id = due.remove();
            self.revise(state, &call_id, at, |call| call.cost += Decimal::new(5, 2));
        }
    }
}

impl WorldState {
    /// A fetch of this call is open from now on.
    pub(super) fn enter_fetch(&mut self, call_id: &str) {
        let open = self.in_flight.entry(call_id.to_owned()).or_default();
        *open += 1;
        self.stats.max_concurrent_fetches = self.stats.max_concurrent_fetches.max(*open);
        let most = self.stats.most_open.entry(call_id.to_owned()).or_default();
        *most = (*most).max(*open);
        *self.stats.fetches.entry(call_id.to_owned()).or_default() += 1;
    }

    pub(super) fn leave_fetch(&mut self, call_id: &str) {
        if let Some(open) = self.in_flight.get_mut(call_id) {
            *open -= 1;
            if *open == 0 {
                self.in_flight.remove(call_id);
            }
        }
    }

    /// The next scripted answer of this call.
    pub(super) fn next_answer(&mut self, call_id: &str, now: DateTime<Utc>) -> Option<Answer> {
        let script = self.scripts.get_mut(call_id)?;
        while let Some(next) = script.front() {
            match next {
                Answer::NotFoundUntil(at) if *at > now => return Some(next.clone()),
                Answer::NotFoundUntil(_) => script.pop_front(),
                _ => return script.pop_front(),
            };
        }
        self.scripts.remove(call_id);
        None
    }
}

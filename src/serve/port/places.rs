//! The places of a port: who holds them, how many an address may hold, and who gives way when there are none left.
//!
//! A connection either keeps us busy or keeps us waiting: for its head, for the rest of its body, for it to read its answer. One that
//! keeps us waiting may be closed at any time, and its client, if it is an honest one, comes again; so a new connection is
//! turned away only where all places are at work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Limits;

/// Between two looks for connections that have waited for too long on a crowded port.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Where all places are at work, whether one has come to wait is asked after this.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What the connection of a place is doing.
#[derive(Debug)]
pub(super) struct Seat {
    began: Instant,
    /// Milliseconds (and one) of the port's life at which we began to wait for the client; 0 while it keeps us busy.
    awaited_since: AtomicU64,
    /// The answer was made before the body was read.
    unread: AtomicBool,
    /// The place is needed for another.
    pub(super) give_way: CancellationToken,
}

impl Seat {
    fn new(began: Instant) -> Self {
        let seat = Self {
            began,
            awaited_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            give_way: CancellationToken::new(),
        };
        seat.wait(seat.now());
        seat
    }

    /// The time by which waiting is measured.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// From now on the client keeps us waiting, and has done so since then.
    pub(super) fn wait(&self, since: u64) {
        self.awaited_since.store(since, Ordering::Relaxed);
    }

    /// From now on the client waits for us.
    pub(super) fn work(&self) {
        self.awaited_since.store(0, Ordering::Relaxed);
    }

    /// Since when we wait for the client.
    pub(super) fn awaited_since(&self) -> Option<u64> {
        Some(self.awaited_since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// Whether a part of the request's body is not read.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Whether a client may still be sending what nobody reads.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
}

/// All places of a port.
#[derive(Debug)]
pub(super) struct PortPlaces {
    limits: Limits,
    began: Instant,
    taken: Mutex<TakenPlaces>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct TakenPlaces {
    next: u64,
    all: usize,
    /// Of these, those of loopback.
    loopback: usize,
    by_address: HashMap<IpAddr, BTreeMap<u64, Arc<Seat>>>,
    looked: Option<Instant>,
}

/// A place that a connection holds until it is dropped.
#[derive(Debug)]
pub(super) struct HeldPlace {
    places: Arc<PortPlaces>,
    address: IpAddr,
    id: u64,
    pub(super) seat: Arc<Seat>,
}

/// What becomes of a connection that asks for a place.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has one; so many others gave way.
    Admitted(HeldPlace, usize),
    /// Its address has all it may have, and all of them are at work.
    AddressFull,
    /// All places are at work.
    Full,
}

impl PortPlaces {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, began: Instant::now(), taken: Mutex::default(), freed: Notify::new() })
    }

    /// Asks for a place. Where none is free, a connection that keeps us waiting gives way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Admission {
        let (address, mut gave_way) = (network(address), 0);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&address).map_or(0, BTreeMap::len);
        if self.limits.per_address.is_some_and(|most| of_address >= most) {
            let Some(id) = taken.oldest_awaited_of(address) else { return Admission::AddressFull };
            taken.give_way(address, id);
            gave_way += 1;
        }
        while !self.has_room(&taken, address) {
            let fair = self.limits.connections / 64;
            let Some((address, id)) = taken.oldest_awaited(fair, !address.is_loopback()) else {
                return Admission::Full;
            };
            taken.give_way(address, id);
            gave_way += 1;
        }
        if self.is_crowded_by(&taken) && taken.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            taken.looked = Some(Instant::now());
            gave_way += taken.all_give_way(self.began, self.limits.short_idle());
        }
        let (id, seat) = (taken.next, Arc::new(Seat::new(self.began)));
        taken.next += 1;
        taken.all += 1;
        taken.loopback += usize::from(address.is_loopback());
        taken.by_address.entry(address).or_default().insert(id, Arc::clone(&seat));
        Admission::Admitted(HeldPlace { places: Arc::clone(self), address, id, seat }, gave_way)
    }

    /// Waits until a place may be free: one was given back, or its connection may have come to wait for its client.
    pub(super) async fn freed(&self) {
        let _ = tokio::time::timeout(ASK_AGAIN, self.freed.notified()).await;
    }

    fn is_crowded(&self) -> bool {
        self.is_crowded_by(&self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is room again, and some to spare.
    pub(super) fn is_roomy(&self) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all + self.limits.connections / 10 < self.limits.connections
    }

    fn is_crowded_by(&self, taken: &TakenPlaces) -> bool {
        taken.all * 4 >= self.limits.connections * 3
    }

    /// A port keeps some places for loopback, where the checks of the host itself come from.
    fn has_room(&self, taken: &TakenPlaces, address: IpAddr) -> bool {
        if address.is_loopback() {
            taken.all < self.limits.connections + self.limits.for_loopback
        } else {
            taken.all - taken.loopback < self.limits.connections
                && taken.all < self.limits.connections + self.limits.for_loopback
        }
    }
}

impl TakenPlaces {
    fn oldest_awaited_of(&self, address: IpAddr) -> Option<u64> {
        let seats = self.by_address.get(&address)?.iter();
        let awaited = seats.filter_map(|(id, seat)| Some((seat.awaited_since()?, *id)));
        awaited.min().map(|(_, id)| id)
    }

    /// The one that has kept us waiting for longest: of the address that holds the most, if that is more than is fair; loopback only
    /// where it may be.
    fn oldest_awaited(&self, fair: usize, spare_loopback: bool) -> Option<(IpAddr, u64)> {
        self.by_address
            .iter()
            .filter(|(address, _)| !(spare_loopback && address.is_loopback()))
            .flat_map(|(address, seats)| {
                let beyond = seats.len().saturating_sub(fair);
                seats.iter().filter_map(move |(id, seat)| {
                    Some((beyond, Reverse((seat.awaited_since()?, *id)), *address))
                })
            })
            .max()
            .map(|(_, Reverse((_, id)), address)| (address, id))
    }

    fn all_give_way(&mut self, began: Instant, within: Duration) -> usize {
        let now = began.elapsed().as_millis();
        let late = |seat: &Seat| {
            seat.awaited_since().is_some_and(|since| u128::from(since) + within.as_millis() < now)
        };
        let late: Vec<(IpAddr, u64)> = self
            .by_address
            .iter()
            .flat_map(|(address, seats)| {
                seats.iter().filter(|(_, seat)| late(seat)).map(|(id, _)| (*address, *id))
            })
            .collect();
        for (address, id) in &late {
            self.give_way(*address, *id);
        }
        late.len()
    }

    /// Takes a place back; its connection ends in a moment, or after the request that has begun just now.
    fn give_way(&mut self, address: IpAddr, id: u64) {
        if let Some(seat) = self.remove(address, id) {
            seat.give_way.cancel();
        }
    }

    fn remove(&mut self, address: IpAddr, id: u64) -> Option<Arc<Seat>> {
        let seats = self.by_address.get_mut(&address)?;
        let seat = seats.remove(&id)?;
        if seats.is_empty() {
            self.by_address.remove(&address);
        }
        self.all -= 1;
        self.loopback -= usize::from(address.is_loopback());
        Some(seat)
    }
}

impl HeldPlace {
    /// Whether connections end with their answers, so that there is room for others.
    pub(super) fn is_crowded(&self) -> bool {
        self.places.is_crowded()
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.places.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(self.address, self.id);
        self.places.freed.notify_one();
    }
}

/// Whom an address counts as: of IPv6 the network that one customer gets, since each has 2^64 addresses to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;

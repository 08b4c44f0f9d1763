use super::super::{OPS, PUBLIC};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The place of one that is admitted, at work.
fn working(places: &Arc<PortPlaces>, address: &str) -> HeldPlace {
    let place = waiting(places, address);
    place.seat.work();
    place
}

fn waiting(places: &Arc<PortPlaces>, address: &str) -> HeldPlace {
    match places.enter(ip(address)) {
        Admission::Admitted(place, _) => place,
        other => panic!("{address}: {other:?}"),
    }
}

fn gave_way(place: &HeldPlace) -> bool {
    place.seat.give_way.is_cancelled()
}

#[test]
fn an_address_has_its_share_and_the_oldest_that_waits_gives_way() {
    for (one, same, other) in [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "::1"),
    ] {
        let places = PortPlaces::new(Limits { per_address: Some(2), ..PUBLIC });
        let (first, second) = (waiting(&places, one), waiting(&places, same));
        let third = working(&places, one);
        assert!(gave_way(&first) && !gave_way(&second) && !gave_way(&third), "{one}");
        second.seat.work();
        assert!(matches!(places.enter(ip(same)), Admission::AddressFull), "{one}");
        drop(waiting(&places, other));
        // One that is gone already gives nothing back a second time.
        drop(first);
        assert!(matches!(places.enter(ip(same)), Admission::AddressFull), "{one}");
        drop(third);
        drop(waiting(&places, one));
    }
}

#[test]
fn who_holds_more_than_is_fair_gives_way_first_and_else_the_oldest() {
    let places = PortPlaces::new(Limits { connections: 128, per_address: None, ..PUBLIC });
    // Vobiz is here for longest, and holds what is fair: two of 128.
    let vobiz = [waiting(&places, "15.206.6.156"), waiting(&places, "15.206.6.156")];
    let many: Vec<HeldPlace> = (0..126).map(|_| waiting(&places, "10.9.9.9")).collect();
    let newest = waiting(&places, "10.0.0.1");
    assert!(!vobiz.iter().any(gave_way) && gave_way(&many[0]) && many[1..].iter().all(|one| !gave_way(one)));
    drop((newest, many));
    // Strangers with an address each: the oldest of all.
    let strangers: Vec<HeldPlace> = (0..126).map(|n| waiting(&places, &format!("10.1.0.{n}"))).collect();
    vobiz[0].seat.work();
    let newest = waiting(&places, "10.0.0.1");
    assert!(gave_way(&vobiz[1]) && !gave_way(&vobiz[0]) && !gave_way(&newest));
    for stranger in &strangers {
        stranger.seat.work();
    }
    newest.seat.work();
    assert!(matches!(places.enter(ip("10.0.0.2")), Admission::Full), "all are at work");
}

#[test]
fn places_are_kept_for_loopback() {
    for own in ["127.0.0.1", "::1"] {
        let places = PortPlaces::new(OPS);
        let strangers: Vec<HeldPlace> = (0..OPS.connections).map(|_| working(&places, "10.9.9.9")).collect();
        assert!(matches!(places.enter(ip("10.0.0.1")), Admission::Full));
        let own: Vec<HeldPlace> = (0..OPS.for_loopback).map(|_| working(&places, own)).collect();
        assert!(matches!(places.enter(ip("10.0.0.1")), Admission::Full));
        own[0].seat.wait(1);
        assert!(
            matches!(places.enter(ip("10.0.0.1")), Admission::Full),
            "loopback gives way to its like only"
        );
        assert!(!strangers.iter().chain(&own).any(gave_way));
        drop(waiting(&places, "127.0.0.1"));
        assert!(gave_way(&own[0]));
    }
}

#[test]
fn a_crowded_port_waits_for_a_shorter_time() {
    let limits =
        Limits { connections: 8, per_address: None, headers_within: Duration::from_millis(5), ..PUBLIC };
    let places = PortPlaces::new(limits);
    let mut early: Vec<HeldPlace> = (0..5).map(|_| waiting(&places, "10.0.0.1")).collect();
    early[0].seat.work();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    let sixth = waiting(&places, "10.0.0.1");
    assert!(places.is_crowded());
    assert!(!early.iter().any(gave_way), "there is room enough");
    early.push(sixth);
    let seventh = waiting(&places, "10.0.0.1");
    assert!(!gave_way(&early[0]) && early[1..5].iter().all(gave_way) && !gave_way(&seventh));
    assert!(!places.is_crowded());
}

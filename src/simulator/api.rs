//! From a request to its answer: which endpoint, whose credentials, which script or limit stands in the way, and
//! otherwise the normal answer. The wire is in `server.rs`. Promise: an odd request gets a status, never a panic.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hyper::http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use super::answer::{Answer, CDR_NOT_FOUND, INVALID_CREDENTIALS, Reply};
use super::cdr;
use super::list::{Filter, ListEnvelope, Listing, Query, parameter};
use super::options::{Casing, SimulatorOptions};
use super::stats::RequestKind;
use super::world::{Row, World, WorldState};

const UNKNOWN_PATH: &str = r#"{"error":"not found"}"#;
const BAD_PAGE: &str = r#"{"status":"error","error":{"code":"BAD_REQUEST","message":"The page cannot be shown","details":{}},"timestamp":"2026-03-25T10:00:00Z","requestId":"req_4d5e6f708192"}"#;
const NO_PARTNER: &str = r#"{"status":"error","error":{"code":"FORBIDDEN","message":"Missing capability can_view_cdrs","details":{}},"timestamp":"2026-03-25T10:00:00Z","requestId":"req_1a2b3c4d5e6f"}"#;

/// What a path asks for.
struct Route<'a> {
    /// The account in the path; the partner's list of everything has none.
    account: Option<&'a str>,
    partner: bool,
    kind: RequestKind,
    /// Of a single fetch.
    call_id: Cow<'a, str>,
    wrong_casing: bool,
}

fn route(path: &str, casing: Casing) -> Option<Route<'_>> {
    let mut segments = path.strip_prefix("/api/v1/")?.split('/');
    let family = segments.next()?;
    let route = |account, partner, kind, call_id: &str, wrong_casing| Route {
        account,
        partner,
        kind,
        call_id: Cow::Owned(decoded(call_id)),
        wrong_casing,
    };
    let rest: Vec<&str> = segments.take(4).collect();
    let wrong_casing = match family {
        "Account" => casing == Casing::Lower,
        "account" => casing == Casing::Capital,
        "partner" => {
            return match *rest {
                ["cdrs"] => Some(route(None, true, RequestKind::List, "", false)),
                ["accounts", id, "cdrs"] => Some(route(Some(id), true, RequestKind::List, "", false)),
                ["accounts", id, "cdrs", call] if !call.is_empty() => {
                    Some(route(Some(id), true, RequestKind::Single, call, false))
                }
                _ => None,
            };
        }
        _ => return None,
    };
    let (id, kind, call) = match *rest {
        [id, "cdr"] => (id, RequestKind::List, ""),
        [id, "cdr", "search"] => (id, RequestKind::Search, ""),
        [id, "cdr", "recent"] => (id, RequestKind::Recent, ""),
        [_, "cdr", "" | "export"] => return None,
        [id, "cdr", call] => (id, RequestKind::Single, call),
        _ => return None,
    };
    Some(route(Some(id), false, kind, call, wrong_casing))
}

/// A path segment without its percent signs; what is no UTF-8 then names no call.
fn decoded(segment: &str) -> String {
    let hex = |at: usize| segment.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
    let (mut bytes, mut at) = (Vec::with_capacity(segment.len()), 0);
    while let Some(&byte) = segment.as_bytes().get(at) {
        let escaped = hex(at).filter(|_| byte == b'%');
        bytes.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is to be rendered, once the lock is gone.
enum Normal {
    Reply(Reply),
    Single(Arc<Row>),
    Listing(Arc<Listing>),
}

/// The fetches of a call that are open; counts down also when the client hangs up.
struct OpenFetch<'a> {
    world: &'a World,
    call_id: &'a str,
}

impl Drop for OpenFetch<'_> {
    fn drop(&mut self) {
        self.world.lock().leave_fetch(self.call_id);
    }
}

/// Answers one request; `None` closes the connection without a word.
pub(super) async fn answer(world: &World, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Reply> {
    let route = route(uri.path(), world.options.casing);
    let call_id =
        route.as_ref().filter(|route| route.kind == RequestKind::Single).map(|route| &*route.call_id);
    let open = call_id.map(|call_id| {
        world.lock().enter_fetch(call_id);
        OpenFetch { world, call_id }
    });
    let query: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).collect();
    let (answer, normal) = decide(world, method, route.as_ref(), &query, headers);

    let row = match &normal {
        Normal::Single(row) => Some(Arc::clone(row)),
        _ => None,
    };
    let account =
        route.as_ref().and_then(|route| route.account).unwrap_or_else(|| header(headers, "x-auth-id"));
    let normal = || render(normal, route.as_ref(), account, &query, &world.options);
    let reply = match &answer {
        Some(answer) => answer.reply(normal, row.as_deref()),
        None => Some(normal()),
    };
    let delay = reply.as_ref().map_or_else(Default::default, |reply| reply.delay);
    let delay = delay.saturating_add(world.options.latency);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    drop(open);
    let mut state = world.lock();
    match &reply {
        Some(reply) => *state.stats.statuses.entry(reply.status).or_default() += 1,
        None => state.stats.resets += 1,
    }
    reply
}

/// Everything that needs the lock: counts the request, and finds the script or the rows it is answered with.
fn decide(
    world: &World,
    method: &Method,
    route: Option<&Route<'_>>,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> (Option<Answer>, Normal) {
    let mut state = world.lock();
    let state = &mut *state;
    // What is true goes by Vobiz's clock; how often it may be asked, by the real one, however far the other was moved.
    let (now, really) = (world.now(), Instant::now());
    world.tick(state, now);
    let kind = route.map_or(RequestKind::Other, |route| route.kind);
    *state.stats.requests.entry(kind).or_default() += 1;
    let reply = |status, body: &'static str| (None, Normal::Reply(Reply::json(status, body)));
    let Some(route) = route else { return reply(404, UNKNOWN_PATH) };
    if method != Method::GET {
        return reply(405, r#"{"error":"method not allowed"}"#);
    }

    let (auth_id, token) = (header(headers, "x-auth-id"), header(headers, "x-auth-token"));
    let account = route.account.unwrap_or(auth_id);
    let mut within_limit = true;
    if let Some(login) = state.logins.get_mut(account) {
        let asked = state.stats.accounts.entry(account.to_owned()).or_default();
        asked.requests += 1;
        state.stats.asked_at.push(really);
        asked.busiest_second = asked.busiest_second.max(login.asked.push(really) as u64);
        if let Some(limit) = world.options.rate_limit {
            within_limit = login.served.len(really) < limit as usize;
            if within_limit {
                login.served.push(really);
            }
        }
    }
    if route.wrong_casing {
        let body = if world.options.wrong_casing == 401 { INVALID_CREDENTIALS } else { UNKNOWN_PATH };
        return reply(world.options.wrong_casing, body);
    }
    // An outage comes before everything: a load balancer that is down asks for no credentials.
    let outage = state.logins.get(account).and_then(|login| login.all_answer.clone());
    if outage.is_none() {
        match permission(state, route, account, auth_id, token) {
            Ok(()) => {}
            Err((status, body)) => return reply(status, body),
        }
        if !within_limit {
            return (
                Some(Answer::Throttled(world.options.rate_limit_says)),
                Normal::Reply(Reply::json(429, "")),
            );
        }
    }
    let normal = find(world, state, route, account, query, now);
    let scripted = outage.or_else(|| {
        if route.kind != RequestKind::Single {
            return None;
        }
        let denied = state.logins.get(account).and_then(|login| login.fetches_answer.clone());
        denied.or_else(|| state.next_answer(&route.call_id, now))
    });
    (scripted, normal)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Whether these credentials open this account.
fn permission(
    state: &WorldState,
    route: &Route<'_>,
    account: &str,
    auth_id: &str,
    token: &str,
) -> Result<(), (u16, &'static str)> {
    if state.logins.get(auth_id).is_none_or(|login| login.token != token) {
        return Err((401, INVALID_CREDENTIALS));
    }
    if route.partner {
        return if auth_id.starts_with("PA_") { Ok(()) } else { Err((403, NO_PARTNER)) };
    }
    let under = || state.logins.get(account).is_some_and(|login| login.parent.as_deref() == Some(auth_id));
    if account == auth_id || under() { Ok(()) } else { Err((401, INVALID_CREDENTIALS)) }
}

/// The normal answer's rows.
fn find(
    world: &World,
    state: &mut WorldState,
    route: &Route<'_>,
    account: &str,
    query: &Query<'_>,
    now: DateTime<Utc>,
) -> Normal {
    if route.kind == RequestKind::Single {
        let row = state.entries.get(&*route.call_id).map(|entry| &entry.row).filter(|row| {
            let call = &row.call;
            let above = world.options.parent_sees_subs && call.parent_id == account;
            row.visible(now) && (call.account_id == account || above)
        });
        return match row {
            Some(row) => Normal::Single(Arc::clone(row)),
            None => Normal::Reply(Reply::json(404, CDR_NOT_FOUND)),
        };
    }
    let Some(login) = state.logins.get_mut(account) else {
        return Normal::Reply(Reply::json(404, UNKNOWN_PATH));
    };
    let filter = match route.kind {
        RequestKind::Recent => Ok(Filter::default()),
        _ => Filter::read(query, &world.options, now),
    };
    let page = parameter(query, "page").and_then(|page| page.parse().ok()).unwrap_or(1);
    if login.refused_page == Some(page) && route.kind != RequestKind::Recent {
        return Normal::Reply(Reply::json(400, BAD_PAGE));
    }
    if let Some((_, status)) =
        world.options.lists.fails_filter.as_ref().filter(|(name, _)| parameter(query, name).is_some())
    {
        return Normal::Reply(Reply::json(*status, BAD_PAGE));
    }
    match filter {
        Ok(filter) => Normal::Listing(login.book.listing(filter, now, world.options.summary())),
        Err(body) => Normal::Reply(Reply::json(422, body)),
    }
}

fn render(
    normal: Normal,
    route: Option<&Route<'_>>,
    account: &str,
    query: &Query<'_>,
    options: &SimulatorOptions,
) -> Reply {
    let partner = route.is_some_and(|route| route.partner);
    let listing = match normal {
        Normal::Reply(reply) => return reply,
        // The partner's single fetch is the bare object.
        Normal::Single(row) if partner && row.call.body.is_none() => {
            let mut out = Vec::with_capacity(1536);
            cdr::row(&mut out, &row.call);
            return Reply::json(200, out);
        }
        Normal::Single(row) => return Reply::json(200, cdr::single(&row.call)),
        Normal::Listing(listing) => listing,
    };
    let number = |name| parameter(query, name).and_then(|value| value.parse().ok()).filter(|n| *n > 0);
    let recent = route.is_some_and(|route| route.kind == RequestKind::Recent);
    let page = ListEnvelope {
        account,
        partner,
        echo: route.filter(|route| route.kind == RequestKind::Search).map(|_| query),
        number: if recent { 1 } else { number("page").unwrap_or(1) },
        // The maximum of `recent` is unpublished; users pass up to 200.
        size: if recent {
            number("limit").unwrap_or(20).min(200)
        } else {
            number("per_page").unwrap_or(20).min(options.lists.most_per_page.unwrap_or(100))
        },
        bare: recent,
        denies_next: options.denies_next,
        faults: &options.lists,
    };
    if page.is_refused(&listing) {
        return Reply::json(400, BAD_PAGE);
    }
    Reply::json(200, page.render(&listing))
}

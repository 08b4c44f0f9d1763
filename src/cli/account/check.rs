//! `account check`: does Vobiz let each configured account read? Asked with its credentials, without a database: two requests an
//! account, more only where a path or token does not work.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli::args::Usage;
use crate::cli::output;
use crate::config::VobizConfig;
use crate::vobiz::{Access, CallId, Client, FetchError, HomeCountry, Http, ListQuery, PathStyle};

/// Clocks that differ by more, in seconds, make signatures and days doubtful.
const SKEW: f64 = 30.0;

/// What came of asking for one account.
#[derive(Debug, Serialize)]
struct AccountCheck {
    account_id: String,
    works: bool,
    /// What works, or what came back.
    says: String,
    /// What to do, where there is something.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
    /// The newest call that its list shows.
    newest_call: Option<String>,
    /// When it began.
    newest_call_at: Option<DateTime<Utc>>,
}

/// Asks for each. Exit code 1 if one does not work.
pub(super) async fn run(settings: &VobizConfig, only: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let is_known = |id: &String| {
        settings.accounts.iter().any(|account| account.credentials.account_id.as_str() == id.as_str())
    };
    if let Some(slip) = only.iter().find(|id| !is_known(id)) {
        bail!(Usage(format!("{slip}: no such account is configured")));
    }
    let http = Http::new(settings.request_timeout, settings.proxy.as_ref())?;
    let mut all_work = true;
    for account in &settings.accounts {
        let credentials = account.credentials.clone();
        if !only.is_empty() && !only.iter().any(|id| id == credentials.account_id.as_str()) {
            continue;
        }
        let tokens = credentials.tokens.len();
        // No number is kept here: the home country does not matter.
        let client = Client::new(http.clone(), settings.api_url.clone(), credentials, HomeCountry::INDIA);
        let checked = check(&client, tokens).await;
        all_work &= checked.works;
        if json {
            output::json_line(&serde_json::to_string(&checked)?);
        } else {
            let verdict = if checked.works { "works" } else { "does not work" };
            output::stdout_line(&format!("{} {verdict}: {}", checked.account_id, checked.says));
            if let Some(cure) = &checked.cure {
                output::stdout_line(&format!("  {cure}"));
            }
        }
    }
    Ok(if all_work { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The newest call of a list.
type Newest = Option<(CallId, Option<DateTime<Utc>>)>;

async fn check(client: &Client, tokens: usize) -> AccountCheck {
    let account_id = client.account_id().to_string();
    let mut refusals: Vec<String> = Vec::new();
    for access in client.candidates() {
        match ask(client, access).await {
            Ok(newest) => {
                let (cure, says) = (advice(client, access, tokens), found(access, tokens, newest.as_ref()));
                let (newest_call, at) = newest.map_or((None, None), |(id, at)| (Some(id.to_string()), at));
                return AccountCheck { account_id, works: true, says, cure, newest_call, newest_call_at: at };
            }
            // Another path or token may do.
            Err(error @ (FetchError::Denied(_) | FetchError::NotYet(_))) => {
                refusals.push(format!("{}: {}", way(access, tokens), error.brief()));
            }
            Err(error) => {
                let (says, cure) = (error.brief(), Some(cure(&error).to_owned()));
                return AccountCheck {
                    account_id,
                    works: false,
                    says,
                    cure,
                    newest_call: None,
                    newest_call_at: None,
                };
            }
        }
    }
    let cure = "Vobiz refuses these credentials: see that the token is the present one of this account, that VOBIZ_API_URL is Vobiz's, and that the \
                account may read CDRs";
    let says = if refusals.is_empty() { "no token is configured".to_owned() } else { refusals.join("; ") };
    AccountCheck {
        account_id,
        works: false,
        says,
        cure: Some(cure.into()),
        newest_call: None,
        newest_call_at: None,
    }
}

/// Lists the newest call, and fetches it by itself: a path or right may be wrong for one of the two alone.
async fn ask(client: &Client, access: Access) -> Result<Newest, FetchError> {
    let row =
        async |page| client.list_with(access, &ListQuery { page, per_page: 1, ..ListQuery::default() }).await;
    let page = match row(1).await {
        // One row that Vobiz cannot print is no fault of the account.
        Err(FetchError::Refused(_)) => row(2).await?,
        page => page?,
    };
    match page.rows.into_iter().next() {
        None => Ok(None),
        Some(Ok(row)) => match client.fetch_with(access, &row.call_id).await {
            Ok(_) => Ok(Some((row.call_id, row.fields.start_time))),
            // What is listed exists.
            Err(FetchError::NotYet(said) | FetchError::Refused(said)) => Err(FetchError::Denied(said)),
            Err(error) => Err(error),
        },
        Some(Err(error)) => Err(FetchError::Unreadable { why: error.to_string(), body: bytes::Bytes::new() }),
    }
}

fn way(access: Access, tokens: usize) -> String {
    let (style, token) = access.parts();
    let path = match style {
        PathStyle::Capital => "/api/v1/Account",
        PathStyle::Lower => "/api/v1/account",
        PathStyle::Partner => "/api/v1/partner",
    };
    if tokens > 1 { format!("{path}, token {token} of {tokens}") } else { path.to_owned() }
}

fn found(access: Access, tokens: usize, newest: Option<&(CallId, Option<DateTime<Utc>>)>) -> String {
    let calls = match newest {
        Some((_, Some(at))) => format!("its newest call began at {}", at.format("%Y-%m-%d %H:%M:%SZ")),
        Some((id, None)) => format!("its newest call is {id}, without a time"),
        None => "its list is empty".into(),
    };
    format!("{}; {calls}", way(access, tokens))
}

/// What is not as it should be, although it works.
fn advice(client: &Client, access: Access, tokens: usize) -> Option<String> {
    let (_, token) = access.parts();
    if tokens > 1 && token > 1 {
        return Some(
            "only the previous token works: the new one is refused, see that it is copied whole".into(),
        );
    }
    let skew = client.clock_skew().filter(|skew| skew.abs() > SKEW)?;
    Some(format!(
        "the clock of the API is {:.0} s {} ours: set this machine's by NTP",
        skew.abs(),
        if skew > 0.0 { "ahead of" } else { "behind" }
    ))
}

fn cure(error: &FetchError) -> &'static str {
    match error {
        FetchError::Throttled { .. } => {
            "too many requests just now, by this account or this network: ask again in a minute; the credentials were not looked at"
        }
        FetchError::Unreadable { .. } => {
            "what answers does not speak as Vobiz does: see that VOBIZ_API_URL is Vobiz's and no proxy answers in its place"
        }
        FetchError::Refused(_) => "Vobiz refuses the question itself: look for a newer release of vobiz-cdr",
        _ => {
            "nothing was said of the credentials: see VOBIZ_API_URL, VOBIZ_PROXY, DNS and the way out of this network, and Vobiz's status page"
        }
    }
}

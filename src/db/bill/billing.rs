//! What finance asks for by name: each report is one query over the views, its totals included. Nothing is added up outside of SQL.

use chrono::NaiveDate;
use sqlx::PgConnection;

/// What a report is asked for.
#[derive(Debug, Clone)]
pub struct ReportFilter {
    /// First day, in the billing zone.
    pub from: NaiveDate,
    /// Last day, included.
    pub to: NaiveDate,
    /// Only this account.
    pub account: Option<String>,
    /// Only this customer, where the report knows customers.
    pub customer: Option<String>,
}

/// One line: as many cells as the report has columns, as Postgres prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// Its cells; `None` is NULL.
    pub cells: Vec<Option<String>>,
    /// Whether it is the total of a currency.
    pub total: bool,
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Words, ids and dates.
    Text,
    /// A decimal number.
    Number,
}

/// A column of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, as the view has it.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

/// Makes the reports from one list: the type, all of them in this order, and what is said of each.
macro_rules! reports {
    ($($report:ident, $name:literal, $knows_customers:literal, $about:literal;)+) => {
        /// A report.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Report {
            $(#[doc = $about] $report,)+
        }

        impl Report {
            /// All of them, as `report --list` shows them.
            pub const ALL: &[Self] = &[$(Self::$report),+];

            /// Its name: that of the view it reads, where there is one.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$report => $name,)+
                }
            }

            /// What it says, in one line.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$report => $about,)+
                }
            }

            /// Whether it can be asked about one customer.
            pub fn knows_customers(self) -> bool {
                match self {
                    $(Self::$report => $knows_customers,)+
                }
            }
        }
    };
}

reports! {
    // Name, whether it knows customers, and what it says.
    Day, "billing_day", true, "the bill by day";
    Month, "billing_month", true, "the bill by month, as far as its days are asked for";
    Customer, "billing_customer", true, "the bill by customer (vobiz.customer_rule)";
    Trunk, "billing_trunk", true, "the bill by trunk";
    Campaign, "billing_campaign", true, "the bill by campaign";
    Number, "billing_number", true, "the bill by the number on our side";
    Destination, "billing_destination", true, "the bill by the place of the number called (vobiz.prefix)";
    Region, "billing_region", true, "the bill by region";
    Hangup, "billing_hangup", true, "the bill by hangup cause and outcome";
    SubAccount, "billing_sub_account", true, "the bill by account, and the account that listed it";
    CostPerMinute, "cost_per_minute", true, "what a minute cost, to hold against the tariff";
    CostGap, "cost_gap", true, "calls whose total is not cost plus streaming, or that have no amount";
    Unclear, "unclear", true, "what could not be read of a call, or only from an odd spelling";
    Stream, "stream", true, "audio streams by day";
    Traffic, "traffic_day", false, "ASR, NER, ACD, ringing, busy hour and peak by day";
    Quality, "quality_day", false, "MOS, jitter and loss by day, codec and trunk";
}

const SUMS: &[&str] = &[
    "calls",
    "answered",
    "unanswered_with_cost",
    "duration",
    "billsec",
    "pulse_minutes",
    "cost",
    "streaming_cost",
    "total_cost",
    "without_cost",
    "credits",
    "unclear",
];

impl Report {
    /// The report of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|report| report.name() == name)
    }

    /// Its columns.
    pub fn columns(self) -> Vec<Column> {
        let (texts, numbers): (&[&'static str], &[&'static str]) = match self {
            Self::Day => (&["day", "account_id", "customer", "currency", "call_direction"], SUMS),
            Self::Month => (&["month", "account_id", "customer", "currency", "call_direction"], SUMS),
            Self::Customer => (&["customer", "currency", "call_direction"], SUMS),
            Self::Trunk => (&["trunk_id", "currency", "call_direction"], SUMS),
            Self::Campaign => (&["campaign_id", "currency", "call_direction"], SUMS),
            Self::Number => (&["our_number", "currency", "call_direction"], SUMS),
            Self::Destination => (&["prefix", "destination", "country", "currency", "call_direction"], SUMS),
            Self::Region => (&["region", "origination_region", "currency", "call_direction"], SUMS),
            Self::Hangup => (
                &[
                    "outcome",
                    "hangup_cause_code",
                    "hangup_cause",
                    "hangup_name",
                    "currency",
                    "call_direction",
                ],
                SUMS,
            ),
            Self::SubAccount => (&["account_id", "listed_by", "currency", "call_direction"], SUMS),
            Self::CostPerMinute => (
                &["trunk_id", "prefix", "destination", "currency", "call_direction"],
                &[
                    "answered",
                    "billsec",
                    "pulse_minutes",
                    "cost",
                    "per_minute",
                    "per_pulse_minute",
                    "unanswered",
                    "unanswered_cost",
                    "answered_unknown",
                    "answered_unknown_cost",
                ],
            ),
            Self::CostGap => (
                &["call_id", "day", "account_id", "customer", "call_direction", "currency"],
                &["cost", "streaming_cost", "total_cost", "gap"],
            ),
            Self::Unclear => {
                (&["call_id", "day", "account_id", "customer", "field", "why", "came", "billed", "lost"], &[])
            }
            Self::Stream => (
                &["day", "account_id", "customer", "currency"],
                &["streams", "calls", "bill_duration", "rounded_bill_duration", "billed_amount"],
            ),
            Self::Traffic => (
                &["day", "account_id", "call_direction"],
                &[
                    "conversations",
                    "answered",
                    "asr_percent",
                    "ner_percent",
                    "acd_seconds",
                    "ring_median",
                    "ring_p95",
                    "post_dial_delay_median",
                    "post_dial_delay_p95",
                    "busy_hour",
                    "busy_hour_conversations",
                    "peak_legs",
                    "account_peak_legs",
                    "answered_unknown",
                ],
            ),
            Self::Quality => (
                &["day", "account_id", "codec", "trunk_id", "call_direction"],
                &[
                    "calls",
                    "answered_without_media",
                    "mos_mean",
                    "mos_median",
                    "mos_p5",
                    "mos_min",
                    "poor_percent",
                    "jitter_median",
                    "jitter_p95",
                    "packet_loss_median",
                    "packet_loss_p95",
                    "packet_loss_max",
                ],
            ),
        };
        let column = |kind| move |name: &&'static str| Column { name, kind };
        texts
            .iter()
            .map(column(ColumnKind::Text))
            .chain(numbers.iter().map(column(ColumnKind::Number)))
            .collect()
    }

    /// Its lines; those of a bill end with one total for each currency.
    pub async fn lines(
        self,
        connection: &mut PgConnection,
        filter: &ReportFilter,
    ) -> Result<Vec<ReportLine>, sqlx::Error> {
        // One text for all bills, so that none can count otherwise: what differs is where from and by what.
        macro_rules! bill {
            ($view:tt, $shown:tt, $keys:tt) => {
                sqlx::query_as!(
                    ReportLine,
                    "select array[" + $shown + ", currency, call_direction, sum(calls)::text, sum(answered)::text,
                              sum(unanswered_with_cost)::text, sum(duration)::text, sum(billsec)::text, sum(pulse_minutes)::text,
                              sum(cost)::text, sum(streaming_cost)::text, sum(total_cost)::text, sum(without_cost)::text,
                              sum(credits)::text, sum(unclear)::text]
                              as \"cells!: _\",
                            grouping(call_direction) = 1 as \"total!\"
                     from " + $view + "
                     where day >= $1 and day <= $2 and ($3::text is null or account_id = $3)
                       and ($4::text is null or customer = $4)
                     group by grouping sets ((currency, call_direction, " + $keys + "), (currency))
                     order by 2, " + $keys + ", currency, call_direction",
                    filter.from,
                    filter.to,
                    filter.account.as_deref(),
                    filter.customer.as_deref()
                )
                .fetch_all(connection)
                .await
            };
        }
        match self {
            Self::Day => {
                bill!("vobiz.billing_day", "day::text, account_id, customer", "day, account_id, customer")
            }
            Self::Month => bill!(
                "vobiz.billing_day",
                "to_char(date_trunc('month', day::timestamp), 'YYYY-MM'), account_id, customer",
                "date_trunc('month', day::timestamp), account_id, customer"
            ),
            Self::Trunk => bill!("vobiz.billing_trunk", "trunk_id", "trunk_id"),
            Self::Campaign => bill!("vobiz.billing_campaign", "campaign_id", "campaign_id"),
            Self::Number => bill!("vobiz.billing_number", "our_number", "our_number"),
            Self::Destination => bill!(
                "vobiz.billing_destination",
                "prefix, destination, country",
                "prefix, destination, country"
            ),
            Self::Region => {
                bill!("vobiz.billing_region", "region, origination_region", "region, origination_region")
            }
            Self::Hangup => bill!(
                "vobiz.billing_hangup",
                "outcome, hangup_cause_code::text, hangup_cause, hangup_name",
                "outcome, hangup_cause_code, hangup_cause, hangup_name"
            ),
            Self::SubAccount => {
                bill!("vobiz.billing_sub_account", "account_id, listed_by", "account_id, listed_by")
            }
            Self::Customer => bill!("vobiz.billing_day", "customer", "customer"),
            Self::CostPerMinute => super::detail::cost_per_minute(connection, filter).await,
            Self::CostGap => super::detail::cost_gap(connection, filter).await,
            Self::Unclear => super::detail::unclear(connection, filter).await,
            Self::Stream => super::detail::stream(connection, filter).await,
            Self::Traffic => super::detail::traffic(connection, filter).await,
            Self::Quality => super::detail::quality(connection, filter).await,
        }
    }
}

/// The zone in which the days of the reports are cut.
pub async fn zone(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!("select billing_zone from vobiz.setting").fetch_one(connection).await
}

/// The accounts that own a stored call.
pub async fn accounts(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(r#"select distinct account_id as "account_id!" from vobiz.billing_day order by 1"#)
        .fetch_all(connection)
        .await
}

/// The customers of the stored calls.
pub async fn customers(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(r#"select distinct customer as "customer!" from vobiz.billing_day order by 1"#)
        .fetch_all(connection)
        .await
}

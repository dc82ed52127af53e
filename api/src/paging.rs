//! Pages of lists that are in the order of ids: where one begins, how long it is, and where the next one begins.

use std::str::FromStr;

use serde::Deserialize;
use store::LIST_ROWS_MAX;
use utoipa::IntoParams;

use crate::problem::Problem;

/// Rows of one page unless told otherwise.
const ROWS: usize = 100;
/// Most rows of one page.
const ROWS_MAX: usize = 1_000;
const _: () = assert!(ROWS_MAX <= LIST_ROWS_MAX, "a page is one read");

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// `next` of the page before.
    #[param(format = "uuid")]
    cursor: Option<String>,
    /// At most so many, 100 if nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl Page {
    /// How many rows it has at most.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(ROWS);
        (1..=ROWS_MAX).contains(&limit).then_some(limit).ok_or_else(|| Problem::bad("`limit` is from 1 to 1000"))
    }

    /// The id behind which it begins; none: with the first.
    pub(crate) fn after<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let after = self.cursor.as_deref().map(str::parse).transpose();
        after.map_err(|_fault| Problem::bad("`cursor` is none of ours"))
    }
}

/// The next page's cursor, by the last row's id; none behind a page that is not full.
pub(crate) fn next<T>(rows: &[T], limit: usize, id: impl Fn(&T) -> String) -> Option<String> {
    rows.last().filter(|_| rows.len() >= limit).map(id)
}

#[cfg(test)]
mod tests {
    use domain::UserId;

    use super::*;

    #[test]
    fn a_page_begins_behind_an_id_and_has_a_bound() {
        let page = |cursor: Option<&str>, limit| Page { cursor: cursor.map(str::to_owned), limit };
        assert_eq!(page(None, None).limit().unwrap(), ROWS);
        for (limit, is_fine) in [(0, false), (1, true), (ROWS_MAX, true), (ROWS_MAX + 1, false)] {
            assert_eq!(page(None, Some(limit)).limit().is_ok(), is_fine, "{limit}");
        }
        let id = UserId::new([7; 16]);
        assert_eq!(page(Some(&id.to_string()), None).after().unwrap(), Some(id));
        assert_eq!(page(None, None).after::<UserId>().unwrap(), None);
        assert!(page(Some(""), None).after::<UserId>().is_err());
    }

    #[test]
    fn there_is_a_next_page_behind_a_full_one_alone() {
        let next = |rows: &[u8]| next(rows, 2, ToString::to_string);
        assert_eq!((next(&[]), next(&[1]), next(&[1, 2])), (None, None, Some("2".to_owned())));
    }
}

//! What the description of the API says of refusals: the same for every path of a kind.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::problem::{Kind, MEDIA_TYPE, SCHEMA};

/// What any request may be refused with.
const ANY: &[Kind] = &[
    Kind::BadRequest,
    Kind::TooLarge,
    Kind::UnsupportedMediaType,
    Kind::RateLimited,
    Kind::Internal,
    Kind::Busy,
    Kind::Unavailable,
    Kind::NotYet,
];

/// Of a request that needs a token.
pub(crate) struct OfCaller;
/// Of a request for something that may not be there.
pub(crate) struct OfThing;
/// Of a request that changes something that may not be there.
pub(crate) struct OfChange;
/// Of a request that adds an entry to a chat, what it comes to among them.
pub(crate) struct OfEntry;
/// Of a request that changes how the caller sees something.
pub(crate) struct OfSetting;
/// Of the use of an invite.
pub(crate) struct OfInvite;
/// Of a request about the invites of a chat.
pub(crate) struct OfInvites;
/// Of a request that brings somebody into a chat.
pub(crate) struct OfInvitation;
/// Of a block.
pub(crate) struct OfBlock;
/// Of a registration.
pub(crate) struct OfRegistration;
/// Of a sign-in.
pub(crate) struct OfSignIn;
/// Of the use of a refresh token.
pub(crate) struct OfRefresh;

macro_rules! refusals {
    ($($of:ident: $($kind:ident),*;)*) => {
        $(impl IntoResponses for $of {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(Kind::$kind),*])
            }
        })*
    };
}

refusals! {
    OfCaller: Unauthenticated;
    OfThing: Unauthenticated, NotFound;
    OfChange: Unauthenticated, WrongPassword, NotFound, Changed;
    OfSetting: Unauthenticated, NotFound, Changed;
    OfInvite: Unauthenticated, NotFound, Rejected, InviteEnded;
    OfInvites: Unauthenticated, NotFound, Rejected, TooMany;
    OfInvitation: Unauthenticated, NotFound, KeyReused, Rejected, NotReachable;
    OfBlock: Unauthenticated, NotFound, TooMany;
    OfRegistration: HandleTaken;
    OfSignIn: WrongPassword, Banned;
    OfRefresh: RefreshRefused;
}

impl IntoResponses for OfEntry {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = |description: &str, schema: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
            ResponseBuilder::new().description(description).content("application/json", content)
        };
        let stored = answer("stored for good, as an entry of the chat", "Stored");
        let location = HeaderBuilder::new().description(Some("its status")).build();
        let accepted = "not decided in time: its status tells, and so does a repetition under the same key";
        let accepted = answer(accepted, "Accepted").header("Location", location);
        let mut all = responses(&[Kind::Unauthenticated, Kind::NotFound, Kind::KeyReused, Kind::Rejected]);
        all.insert("201".to_owned(), RefOr::T(stored.build()));
        all.insert("202".to_owned(), RefOr::T(accepted.build()));
        all
    }
}

/// One response a status, which names all of its problems.
fn responses(own: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in own.iter().chain(ANY) {
        by_status.entry(kind.status().as_str().to_owned()).or_default().push(*kind);
    }
    let response = |(status, kinds): (String, Vec<Kind>)| {
        let said = kinds.iter().map(|kind| format!("`{}`: {}", kind.name(), kind.title()));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(SCHEMA))).build();
        let response =
            ResponseBuilder::new().description(said.collect::<Vec<_>>().join(" ")).content(MEDIA_TYPE, content);
        (status, RefOr::T(response.build()))
    };
    by_status.into_iter().map(response).collect()
}

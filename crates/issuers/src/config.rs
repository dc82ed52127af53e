//! Which issuers are trusted, and with what: a file that is checked whole before anything is fetched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::Error;

/// Issuers in one file: each is asked for its keys for ever.
pub const ISSUERS_MAX: usize = 16;

/// Of an issuer's name, an address, an audience and a claim's name.
const TEXT_BYTES_MAX: usize = 1_024;
/// An hour: less, and one refresh that is missed would shut everybody out.
const KEYS_LAST_S_MIN: u64 = 3_600;
/// A week: for so long a key may be used that its owner has taken back.
const KEYS_LAST_S_MAX: u64 = 7 * 24 * 3_600;

/// The issuers whose tokens are taken beside this deployment's own.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Each in a section `[[issuer]]` of its own.
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<IssuerConfig>,
}

/// One issuer.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What its tokens have in `iss`, to the letter.
    pub issuer: String,
    /// Where its keys are (RFC 7517): https; http on this machine alone.
    #[serde(deserialize_with = "address")]
    pub jwks_url: Url,
    /// What its tokens have in `aud`, alone or among others.
    pub audience: String,
    /// What its tokens may be signed with.
    pub algorithms: BTreeSet<Algorithm>,
    /// The claim that says who is signed in, the same for ever.
    #[serde(default = "subject")]
    pub user_claim: String,
    /// How long its keys are used while it cannot be asked, in s: 1 hour to 7 days.
    #[serde(default = "a_day")]
    pub keys_last_s: u64,
}

/// What a token may be signed with: asymmetric, so that who checks cannot sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
}

impl Algorithm {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is or will be, it is none of these")]
    pub(crate) const fn of_header(algorithm: jsonwebtoken::Algorithm) -> Option<Self> {
        use jsonwebtoken::Algorithm as Named;
        match algorithm {
            Named::EdDSA => Some(Self::EdDsa),
            Named::ES256 => Some(Self::Es256),
            Named::RS256 => Some(Self::Rs256),
            Named::PS256 => Some(Self::Ps256),
            _ => None,
        }
    }

    /// As keys and headers name it (RFC 7518 §3.1).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    let text = String::deserialize(from)?;
    Url::parse(&text).map_err(|error| serde::de::Error::custom(format_args!("jwks_url: {error}")))
}

fn subject() -> String {
    "sub".to_owned()
}

const fn a_day() -> u64 {
    24 * 3_600
}

impl Config {
    /// Reads the file's text, and checks all of it.
    ///
    /// # Errors
    /// The first fault, with the issuer that has it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| Error::Toml(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.issuers.is_empty() || self.issuers.len() > ISSUERS_MAX {
            return Err(Error::Count);
        }
        let mut names = BTreeSet::new();
        for issuer in &self.issuers {
            let twice = (!names.insert(&issuer.issuer)).then_some("it stands there twice");
            if let Some(reason) = issuer.fault().or(twice) {
                return Err(Error::Issuer { issuer: issuer.issuer.clone(), reason });
            }
        }
        Ok(())
    }
}

impl IssuerConfig {
    /// The first setting that cannot work, if there is one.
    fn fault(&self) -> Option<&'static str> {
        let is_text = |text: &str| {
            !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(|c: char| c.is_control())
        };
        let checks = [
            (is_text(&self.issuer), "issuer: 1 to 1,024 bytes without control characters"),
            (self.issuer != tokens::ISSUER, "issuer: the name of this deployment's own tokens"),
            (is_text(&self.audience), "audience: 1 to 1,024 bytes without control characters"),
            (is_text(&self.user_claim), "user_claim: 1 to 1,024 bytes without control characters"),
            (!self.algorithms.is_empty(), "algorithms: at least one of EdDSA, ES256, RS256, PS256"),
            ((KEYS_LAST_S_MIN..=KEYS_LAST_S_MAX).contains(&self.keys_last_s), "keys_last_s: 1 hour to 7 days"),
            (self.is_safe(), "jwks_url: https, or http to this machine (127.0.0.1, [::1], localhost)"),
            (
                self.jwks_url.username().is_empty()
                    && self.jwks_url.password().is_none()
                    && self.jwks_url.fragment().is_none(),
                "jwks_url: neither a user nor a fragment",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, reason)| *reason)
    }

    /// Whether nobody on the way can put a key of his own among the fetched ones.
    fn is_safe(&self) -> bool {
        match (self.jwks_url.scheme(), self.jwks_url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(Host::Ipv4(address))) => IpAddr::V4(address).is_loopback(),
            ("http", Some(Host::Ipv6(address))) => IpAddr::V6(address).is_loopback(),
            // What it resolves to is looked at when it is connected to.
            ("http", Some(Host::Domain(name))) => name == "localhost",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[issuer]]
        issuer = "https://id.example"
        jwks_url = "https://id.example/keys"
        audience = "chat"
        algorithms = ["RS256"]
    "#;

    fn fault(text: &str) -> String {
        let error = Config::parse(text).unwrap_err();
        if let Error::Toml(error) = error { error.to_string() } else { error.to_string() }
    }

    #[test]
    fn the_page_for_operators_shows_a_file_that_works() {
        let page = include_str!("../../../docs/operating.md");
        let (_, block) = page.split_once("```toml\n[[issuer]]").unwrap();
        let shown = Config::parse(&format!("[[issuer]]{}", block.split_once("```").unwrap().0)).unwrap();
        assert_eq!((shown.issuers[0].keys_last_s, &*shown.issuers[0].user_claim), (a_day(), &*subject()));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = Config::parse(GOOD).unwrap();
        let [issuer] = &config.issuers[..] else { panic!("{config:?}") };
        assert_eq!((&*issuer.user_claim, issuer.keys_last_s), ("sub", 86_400));
        assert_eq!(issuer.algorithms.iter().collect::<Vec<_>>(), [&Algorithm::Rs256]);
    }

    #[test]
    fn x10_a_file_that_cannot_work_is_refused_with_what_is_wrong_in_it() {
        for (good, bad, said) in [
            ("audience", "audiense", "audiense"),
            ("[[issuer]]", "[[issuers]]", "issuers"),
            ("issuer = \"https://id.example\"", "", "missing field `issuer`"),
            ("\"RS256\"", "\"none\"", "none"),
            ("\"RS256\"", "\"HS256\"", "HS256"),
            ("\"RS256\"", "\"RS512\"", "RS512"),
            ("\"RS256\"", "", "algorithms: at least one"),
            ("\"chat\"", "\" \"", "audience:"),
            ("\"https://id.example\"", "\"heliograph\"", "issuer: the name of this deployment's own tokens"),
            ("\"https://id.example\"", "\"a\\u0000b\"", "issuer: 1 to 1,024 bytes"),
            ("https://id.example/keys", "http://id.example/keys", "jwks_url: https, or http to this machine"),
            ("https://id.example/keys", "http://localhost.example/", "jwks_url: https, or http to this machine"),
            ("https://id.example/keys", "http://10.0.0.1/", "jwks_url: https, or http to this machine"),
            ("https://id.example/keys", "file:///etc/keys", "jwks_url: https, or http to this machine"),
            ("https://id.example/keys", "https://me@id.example/", "jwks_url: neither a user"),
            ("https://id.example/keys", "keys", "jwks_url: relative URL"),
            ("audience", "keys_last_s = 60\naudience", "keys_last_s: 1 hour to 7 days"),
            ("audience", "user_claim = \"\"\naudience", "user_claim:"),
        ] {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD);
            assert!(fault(&text).contains(said), "{bad}: {}", fault(&text));
        }
        assert!(fault("").contains("1 to 16 issuers"));
        assert!(fault(&GOOD.repeat(2)).contains("issuer `https://id.example`: it stands there twice"));
        let many = (0..=ISSUERS_MAX).map(|n| GOOD.replace("//id.", &format!("//id{n}.")));
        assert!(fault(&many.collect::<String>()).contains("1 to 16 issuers"));
        for fine in ["http://127.0.0.1:1/keys", "http://[::1]:1/", "http://localhost/keys?of=us"] {
            assert!(Config::parse(&GOOD.replace("https://id.example/keys", fine)).is_ok(), "{fine}");
        }
    }
}

//! A run fails on an unlisted WARN or ERROR line.

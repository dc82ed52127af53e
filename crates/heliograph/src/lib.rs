//! composes roles

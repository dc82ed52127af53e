//! Folds events and statuses into read models.

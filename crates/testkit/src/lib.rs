//! What tests need from the machine: a broker process, folders, waiting for a condition.

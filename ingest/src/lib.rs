//! pgtrace

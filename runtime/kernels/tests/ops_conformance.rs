//! Every operator, on every instruction set of this machine, in every way to cut the work: the bits of the reference;
//! and the reference against a textbook in f64.

#![cfg(feature = "std")]

mod ops_conformance {
    mod attention;
    mod conv;
    mod drafts;
    mod dual;
    mod elementwise;
    mod hashes;
    mod norm;
    mod rope;
    mod scan;
    mod support;
}

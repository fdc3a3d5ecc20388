//! Any bytes are read or refused without a panic and without cost; what is read is written alike, and what a passphrase
//! opens has the form of a key.
#![no_main]
use echomesh::vault::pem::{self, Content};
use echomesh::vault::seal::Sealed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(sealed) = Sealed::read(data) {
        assert_eq!(Sealed::read(&sealed.to_der()), Ok(sealed));
    }
    if let Some(Content::Sealed(der)) = pem::read(data) {
        let text = pem::write_sealed(&der);
        assert!(matches!(pem::read(text.as_bytes()), Some(Content::Sealed(again)) if again == der));
    }
    if let Some((key, seed)) = pem::read_der(data) {
        let (again, _) = pem::read_der(&*pem::der(&seed)).expect("what is written is read");
        assert_eq!(again.public(), key.public());
    }
});

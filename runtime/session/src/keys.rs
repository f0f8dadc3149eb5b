//! Key files: PEM as OpenSSL reads and writes it (PKCS #8 and `SubjectPublicKeyInfo`, RFC 8410).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use dynamax_bundle::{Bundle, PublicKey, SecretKey, Signature};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
    PublicKeyBytes,
};

/// Only the owner may read a secret key.
const SECRET_MODE: u32 = 0o600;

/// Writes a secret key to `path`, which only its owner can read, and its public key beside it as `path` with `.pub`
/// behind its name. Returns that path.
///
/// # Errors
///
/// A file that is there already: a key that is overwritten is lost.
pub fn write_pair(path: &Path, key: &SecretKey) -> Result<PathBuf> {
    let public_path = public_path(path);
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let secret = pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| anyhow!("{error}"))?;
    let public = PublicKeyBytes(key.public().to_bytes()).to_public_key_pem(LineEnding::LF);
    let public = public.map_err(|error| anyhow!("{error}"))?;
    ensure!(
        !public_path.exists(),
        "{}: is there already; keys are never overwritten, choose another name",
        show(&public_path)
    );
    create(path, SECRET_MODE, secret.as_bytes())?;
    create(&public_path, 0o644, public.as_bytes())?;
    Ok(public_path)
}

/// Where the public key of a secret one is kept.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(|| {
        format!("{}: cannot be made; keys are never overwritten, choose another name", show(path))
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| show(path))
}

/// Reads a secret key.
///
/// # Errors
///
/// A file that is no secret key, or that others can read.
pub fn read_secret(path: &Path) -> Result<SecretKey> {
    let metadata = fs::metadata(path).with_context(|| {
        format!("{}: cannot be read; give a key of `dynamax keygen`", show(path))
    })?;
    let mode = metadata.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{}: others can read this secret key (mode {mode:o}, expected 600); run chmod 600, and make a new key if they did",
        show(path)
    );
    let pem = fs::read_to_string(path).with_context(|| show(path))?;
    let pair = KeypairBytes::from_pkcs8_pem(&pem).map_err(|_| {
        anyhow!("{}: not an ed25519 secret key; give a key of `dynamax keygen`", show(path))
    })?;
    Ok(SecretKey::from_bytes(&pair.secret_key))
}

/// Reads public keys: of a file, or of every `.pub` file in a directory.
///
/// # Errors
///
/// A file that is no public key; a directory without any.
pub fn read_public(path: &Path) -> Result<Vec<PublicKey>> {
    if !path.is_dir() {
        return Ok(vec![read_one_public(path)?]);
    }
    let entries = fs::read_dir(path).with_context(|| show(path))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| show(path))?.path();
        if file.extension().is_some_and(|ending| ending == "pub") {
            files.push(file);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{}: holds no key; put a .pub file there", show(path));
    files.iter().map(|file| read_one_public(file)).collect()
}

/// What a configuration writes in front of a public key that it holds itself.
const INLINE: &str = "ed25519:";

/// Reads the public keys that a configuration names: `ed25519:` and 64 hexadecimal digits, or a path as
/// [`read_public`] takes.
///
/// # Errors
///
/// What is no key.
pub fn trusted(name: &str) -> Result<Vec<PublicKey>> {
    let Some(digits) = name.strip_prefix(INLINE) else { return read_public(Path::new(name)) };
    let key = parse_hex(digits).and_then(|bytes| PublicKey::from_bytes(&bytes));
    let key = key.with_context(|| {
        format!("{name}: not a public key; expected {INLINE} and the 64 digits that `dynamax keygen` prints")
    })?;
    Ok(vec![key])
}

/// How a configuration writes a public key.
#[must_use]
pub fn inline(key: &PublicKey) -> String {
    key.to_bytes().iter().fold(INLINE.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn parse_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn read_one_public(path: &Path) -> Result<PublicKey> {
    let pem = fs::read_to_string(path).with_context(|| {
        format!("{}: cannot be read; give the .pub file of a key of `dynamax keygen`", show(path))
    })?;
    let bytes = PublicKeyBytes::from_public_key_pem(&pem).ok();
    bytes.and_then(|bytes| PublicKey::from_bytes(&bytes.0)).with_context(|| {
        format!("{}: not an ed25519 public key; give the .pub file of a key", show(path))
    })
}

/// Signs the bundle at `path`, which nobody uses yet, as version `counter`: what was signed before is replaced.
///
/// # Errors
///
/// A bundle that is not whole; a file that cannot be written.
pub fn sign_in_place(path: &Path, key: &SecretKey, counter: u64) -> Result<Signature> {
    let source = crate::Source::open(path)?;
    let bundle = source.verified()?;
    let content_bytes = content_bytes(&bundle, source.bytes());
    let signature = key.sign(bundle.hash(), counter);
    drop(source);
    let written = || {
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.set_len(content_bytes)?;
        file.write_all(&signature.emit())?;
        file.sync_all()
    };
    written().with_context(|| format!("{}: cannot be signed", show(path)))?;
    crate::Source::open(path)?.note_whole()?;
    Ok(signature)
}

/// Length of a bundle without its signature.
fn content_bytes(bundle: &Bundle<'_>, file: &[u8]) -> u64 {
    let trailer = bundle.signature().map_or(0, |signature| signature.emit().len());
    (file.len() - trailer) as u64
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release");
        let key = SecretKey::from_bytes(&[7; 32]);
        let public = write_pair(&path, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "for its owner only");
        assert_eq!(read_secret(&path).unwrap().to_bytes(), [7; 32], "the secret");
        assert_eq!(read_public(&public).unwrap(), [key.public()], "the file");
        assert_eq!(read_public(folder.path()).unwrap(), [key.public()], "the directory");
        assert_eq!(trusted(&inline(&key.public())).unwrap(), [key.public()], "the digits");
        assert!(trusted("ed25519:00").is_err(), "too few digits");
        assert!(write_pair(&path, &key).is_err(), "a key is never overwritten");
        assert!(read_secret(&public).is_err(), "a public key signs nothing");
        assert!(read_public(&path).is_err(), "a secret key is not handed around as a public one");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release");
        write_pair(&path, &SecretKey::from_bytes(&[7; 32])).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("mode 640"), "{error}");
    }

    /// Written by OpenSSL 3.0: `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`.
    #[test]
    fn keys_of_openssl_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, public) = (folder.path().join("o"), folder.path().join("o.pub"));
        create(&path, SECRET_MODE, include_bytes!("../tests/keys/openssl")).unwrap();
        create(&public, 0o644, include_bytes!("../tests/keys/openssl.pub")).unwrap();
        let key = read_secret(&path).unwrap();
        assert_eq!(read_public(&public).unwrap(), [key.public()], "a pair");
    }
}

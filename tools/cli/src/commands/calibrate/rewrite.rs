//! A bundle with another calibration section, in the place of the old file or beside it.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use dynamax_bundle::{Bundle, Hash, Section, SectionKind, SectionSpec, Writer};
use dynamax_session::Source;

/// Writes `bundle` to `output` with this content of its calibration section. The file appears when it is whole, or not at
/// all.
pub(super) fn with_calibration(bundle: &Bundle<'_>, content: &[u8], output: &Path) -> Result<()> {
    let is_calibration = |section: &Section<'_>| section.kind == SectionKind::Calibration;
    // Weights are found by the index of their section, so the new section takes the old one's place or the last.
    let mut sections: Vec<(SectionSpec, Hash, &[u8])> = bundle
        .sections()
        .map(|section| match is_calibration(&section) {
            true => part(section.kind, section.name, Hash::of(content), content),
            false => part(section.kind, section.name, section.hash, section.bytes),
        })
        .collect();
    if !bundle.sections().any(|section| is_calibration(&section)) {
        sections.push(part(SectionKind::Calibration, "", Hash::of(content), content));
    }
    let specs = sections.iter().map(|(spec, ..)| spec.clone()).collect();
    let hashes: Vec<Hash> = sections.iter().map(|(_, hash, _)| *hash).collect();
    let writer = Writer::new(bundle.meta().to_buf(), bundle.program_buf()?, specs)?;
    let failed = || format!("{}: cannot be written; nothing was changed", output.display());
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".dynamax-")
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(failed)?;
    write(&writer, &hashes, &sections, file.as_file()).with_context(failed)?;
    file.as_file_mut().sync_all().with_context(failed)?;
    readable(file.as_file()).with_context(failed)?;
    file.persist(output).map_err(|error| error.error).with_context(failed)?;
    Source::open(output)?.note_whole()
}

fn part<'b>(
    kind: SectionKind,
    name: &str,
    hash: Hash,
    bytes: &'b [u8],
) -> (SectionSpec, Hash, &'b [u8]) {
    (SectionSpec { name: name.to_owned(), kind, len: bytes.len() as u64 }, hash, bytes)
}

fn write(
    writer: &Writer,
    hashes: &[Hash],
    sections: &[(SectionSpec, Hash, &[u8])],
    file: &std::fs::File,
) -> std::io::Result<()> {
    let mut out = BufWriter::new(file);
    let header = writer.header(hashes);
    out.write_all(&header)?;
    let mut at = header.len() as u64;
    for (index, (_, _, bytes)) in sections.iter().enumerate() {
        pad(&mut out, writer.offset(index) - at)?;
        out.write_all(bytes)?;
        at = writer.offset(index) + bytes.len() as u64;
    }
    pad(&mut out, writer.file_len() - at)?;
    out.flush()
}

fn pad(out: &mut impl Write, zeros: u64) -> std::io::Result<()> {
    out.write_all(&vec![0; zeros as usize])
}

/// Temporary files are private; a bundle is as readable as any other new file.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

//! The kubelet's certificates: its own files and the one inside its kubeconfig.

use super::text;
use crate::facts::{CertificateLife, Seen};
use base64ct::{Base64, Encoding};
use std::fs::File;
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const CLIENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const SERVING: &[&str] =
    &["/var/lib/kubelet/pki/kubelet-server-current.pem", "/var/lib/kubelet/pki/kubelet.crt"];
const KUBECONFIG: &[&str] = &["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/kubeconfig"];

/// Those that are there.
pub(super) fn read(root: &File) -> Vec<CertificateLife> {
    let mut found = Vec::new();
    for (path, client) in std::iter::once((&CLIENT, true)).chain(SERVING.iter().map(|path| (path, false))) {
        match text(root, path) {
            Ok(text) => {
                found.push(CertificateLife { path: (*path).into(), client, life: parse_certificate(&text) });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                found.push(CertificateLife { path: (*path).into(), client, life: Err(error.to_string()) });
            }
        }
    }
    for path in KUBECONFIG {
        if let Some(life) = text(root, path).ok().and_then(|text| embedded(&text)) {
            found.push(CertificateLife { path: (*path).into(), client: true, life });
        }
    }
    found
}

/// `client-certificate-data` of a kubeconfig; `None` when it names a file, or nothing.
fn embedded(text: &str) -> Option<Seen<(i64, i64)>> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("client-certificate-data:"))?;
    let bytes = match Base64::decode_vec(line.trim().trim_matches('"')) {
        Ok(bytes) => bytes,
        Err(error) => return Some(Err(format!("client-certificate-data: {error}"))),
    };
    Some(parse_certificate(&String::from_utf8_lossy(&bytes)))
}

/// From when until when the first certificate of a PEM file is valid, seconds since 1970.
///
/// # Errors
/// One sentence when there is none, or it cannot be read.
pub fn parse_certificate(text: &str) -> Seen<(i64, i64)> {
    let start = text.find(BEGIN).ok_or("it holds no certificate")?;
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find(END).ok_or("its certificate has no end")? + END.len();
    let pem = rest.get(..end).unwrap_or_default();
    let certificate = Certificate::from_pem(pem).map_err(|error| format!("no certificate: {error}"))?;
    let seconds =
        |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.tbs_certificate.validity;
    Ok((seconds(validity.not_before), seconds(validity.not_after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../../tests/fixtures/kubelet-client.pem");

    #[test]
    fn the_life_of_a_certificate_with_its_key_behind_it() {
        let life = Ok((1_795_611_574, 1_795_611_574 + 365 * 86_400));
        assert_eq!(parse_certificate(PEM), life);
        let line = format!("    client-certificate-data: {}\n", Base64::encode_string(PEM.as_bytes()));
        assert_eq!(embedded(&line), Some(life));
    }

    #[test]
    fn files_that_are_not_there_are_none_and_one_that_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(super::read(&root), []);
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(CLIENT, PEM);
        std::fs::create_dir(dir.path().join(SERVING[1].trim_start_matches('/'))).unwrap();
        put(KUBECONFIG[1], "users:\n- user: {client-certificate: /x.pem}\n");
        let found = super::read(&root);
        let told: Vec<_> = found.iter().map(|c| (c.path.as_str(), c.client, c.life.is_ok())).collect();
        assert_eq!(told, [(CLIENT, true, true), (SERVING[1], false, false)]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(text in "\\PC{0,60}|(client-certificate-data: ?)?[A-Za-z0-9+/=]{0,40}") {
            let _ = embedded(&text);
            let _ = parse_certificate(&text);
            let _ = parse_certificate(&format!("{BEGIN}\n{text}\n{END}"));
        }
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert!(parse_certificate("").is_err());
        assert!(parse_certificate(BEGIN).unwrap_err().contains("no end"));
        assert!(parse_certificate(&format!("{BEGIN}\nAAAA\n{END}\n")).is_err());
        assert_eq!(embedded("users: []"), None);
        assert!(embedded("  client-certificate-data: ####").unwrap().is_err());
    }
}

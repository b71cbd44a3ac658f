//! The kubelet's certificates: its own files and the one of its kubeconfig.
//!
//! Sources: kubelet `--cert-dir`, `--tls-cert-file`, `--kubeconfig`; k3s `pkg/agent/config/config.go`
//! (agent/client-kubelet.crt, agent/serving-kubelet.crt below its data folder); MicroK8s `default-args/kubelet` and
//! `actions/common/utils.sh` (credentials/kubelet.config, certs/kubelet.crt).

use crate::facts::{CertificateLife, Seen};
use crate::observe::files::text;
use crate::observe::kubelet::{Given, value};
use base64ct::{Base64, Encoding};
use std::fs::File;
use x509_cert::Certificate;
use x509_cert::der::Decode;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const FOLDER: &str = "/var/lib/kubelet/pki";
const CLIENT: &str = "kubelet-client-current.pem";
const SERVING: &[&str] = &["kubelet-server-current.pem", "kubelet.crt"];
const KUBECONFIG: &[&str] = &["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/kubeconfig"];

/// Those that are there: where the flags of the kubelet say, and in the usual places of one that has a process of its
/// own.
pub(super) fn read(root: &File, given: Option<&Given>) -> Vec<CertificateLife> {
    let flags = given.map_or(&[][..], |given| given.flags.as_slice());
    let usual = given.is_none_or(|given| given.inside.is_none());
    let folder = value(flags, "cert-dir").map(|folder| folder.trim_end_matches('/').to_owned());
    let folder = folder.or_else(|| usual.then(|| FOLDER.to_owned()));
    let mut files: Vec<(String, bool)> = Vec::new();
    files.extend(folder.iter().map(|folder| (format!("{folder}/{CLIENT}"), true)));
    // Beside what the API server signed the kubelet does not use what it signed itself.
    let there = |path: &String| !matches!(text(root, path), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
    let own = || {
        let folder = folder.as_ref()?;
        SERVING.iter().map(|name| format!("{folder}/{name}")).find(there)
    };
    files.extend(value(flags, "tls-cert-file").or_else(own).map(|path| (path, false)));
    // What lies in the usual places of another kubelet, or of an earlier one, is not this one's.
    let kubeconfigs = match value(flags, "kubeconfig") {
        Some(named) => vec![named],
        None => KUBECONFIG.iter().filter(|_| usual).map(|path| (*path).to_owned()).collect(),
    };
    let mut found: Vec<CertificateLife> = Vec::new();
    let mut inside = Vec::new();
    for path in kubeconfigs {
        let Ok(text) = text(root, &path) else { continue };
        if let Some(life) = embedded(&text) {
            inside.push(CertificateLife { path, client: true, life });
        } else if let Some(file) = referenced(&text, &path) {
            files.push((file, true));
        }
    }
    for (path, client) in files {
        if found.iter().any(|known| known.path == path) {
            continue;
        }
        match text(root, &path) {
            Ok(text) => found.push(CertificateLife { path, client, life: parse_certificate(&text) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => found.push(CertificateLife { path, client, life: Err(error.to_string()) }),
        }
    }
    for certificate in inside {
        if !found.iter().any(|known| known.path == certificate.path) {
            found.push(certificate);
        }
    }
    found
}

/// The file that `client-certificate` of a kubeconfig at `path` names.
fn referenced(text: &str, path: &str) -> Option<String> {
    let file = text.lines().find_map(|line| line.trim().strip_prefix("client-certificate:"))?;
    let file = file.trim().trim_matches(['"', '\'']);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match file {
        "" => None,
        file if file.starts_with('/') => Some(file.to_owned()),
        file => Some(format!("{folder}/{file}")),
    }
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
    let end = rest.find(END).ok_or("its certificate has no end")?;
    let lines = rest.get(BEGIN.len()..end).unwrap_or_default();
    let base64: String = lines.split_ascii_whitespace().collect();
    // Not by x509-cert's own reader of PEM: that of der 0.7 waits for ever for what is cut off.
    let der = Base64::decode_vec(&base64).map_err(|error| format!("no certificate: {error}"))?;
    let certificate = Certificate::from_der(&der).map_err(|error| format!("no certificate: {error}"))?;
    let seconds =
        |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.tbs_certificate.validity;
    Ok((seconds(validity.not_before), seconds(validity.not_after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::KubeletHost;

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
        assert_eq!(super::read(&root, None), []);
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let (client, serving) = (format!("{FOLDER}/{CLIENT}"), format!("{FOLDER}/{}", SERVING[1]));
        put(&client, PEM);
        std::fs::create_dir(dir.path().join(serving.trim_start_matches('/'))).unwrap();
        put(KUBECONFIG[1], "users:\n- user: {client-certificate: /x.pem}\n");
        let found = super::read(&root, None);
        let told: Vec<_> = found.iter().map(|c| (c.path.as_str(), c.client, c.life.is_ok())).collect();
        assert_eq!(told, [(client.as_str(), true, true), (serving.as_str(), false, false)]);
    }

    #[test]
    fn flags_say_where_they_are_and_inside_of_another_program_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(&format!("{FOLDER}/{CLIENT}"), "left behind");
        put(
            "/k3s/agent/kubelet.kubeconfig",
            "users:\n- user:\n    client-certificate: /k3s/agent/client-kubelet.crt\n",
        );
        put("/k3s/agent/client-kubelet.crt", PEM);
        put("/k3s/agent/serving-kubelet.crt", PEM);
        let line = format!("    client-certificate-data: {}\n", Base64::encode_string(PEM.as_bytes()));
        put("/snap/7/credentials/kubelet.config", &line);
        put("/snap/7/certs/kubelet.crt", PEM);
        let read = |inside, flags: &[&str]| -> Vec<(String, bool)> {
            let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
            let found = super::read(&root, Some(&Given { inside, flags, ..Given::default() }));
            assert!(inside.is_none() || found.iter().all(|c| c.life.is_ok()), "{found:?}");
            found.into_iter().map(|c| (c.path, c.client)).collect()
        };
        let of = |path: &str, client| (path.to_owned(), client);
        let k3s =
            ["--kubeconfig=/k3s/agent/kubelet.kubeconfig", "--tls-cert-file=/k3s/agent/serving-kubelet.crt"];
        let (serving, client) =
            (of("/k3s/agent/serving-kubelet.crt", false), of("/k3s/agent/client-kubelet.crt", true));
        assert_eq!(read(Some(KubeletHost::K3s), &k3s), [serving.clone(), client.clone()]);
        assert_eq!(
            read(None, &k3s),
            [of(&format!("{FOLDER}/{CLIENT}"), true), serving, client],
            "as rke2 has it"
        );
        let lite = ["--kubeconfig=/snap/7/credentials/kubelet.config", "--cert-dir=/snap/7/certs"];
        let expected =
            [of("/snap/7/certs/kubelet.crt", false), of("/snap/7/credentials/kubelet.config", true)];
        assert_eq!(read(Some(KubeletHost::Kubelite), &lite), expected);
        // Of a kubelet that was here before: neither its kubeconfig nor what it signed itself is in use.
        put(KUBECONFIG[1], &line);
        put(&format!("{FOLDER}/{}", SERVING[1]), "left behind too");
        put(&format!("{FOLDER}/{}", SERVING[0]), PEM);
        put(KUBECONFIG[0], &line);
        let kubeadm = [format!("--kubeconfig={}", KUBECONFIG[0])];
        let expected = [
            of(&format!("{FOLDER}/{CLIENT}"), true),
            of(&format!("{FOLDER}/{}", SERVING[0]), false),
            of(KUBECONFIG[0], true),
        ];
        assert_eq!(read(None, &[&kubeadm[0]]), expected);
        assert_eq!(referenced("client-certificate: pki/x.crt", "/a/b.conf").as_deref(), Some("/a/pki/x.crt"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(text in "\\PC{0,60}|(client-certificate-data: ?)?[A-Za-z0-9+/=]{0,40}") {
            let _ = embedded(&text);
            let _ = referenced(&text, &text);
            let _ = parse_certificate(&text);
            let _ = parse_certificate(&format!("{BEGIN}\n{text}\n{END}"));
        }
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert!(parse_certificate("").is_err());
        assert!(parse_certificate(BEGIN).unwrap_err().contains("no end"));
        assert!(parse_certificate(&format!("{BEGIN}\nAAAA\n{END}\n")).is_err());
        // Cut off within the length of the outermost sequence, and anywhere.
        for cut in ["MA==", "MIIB"] {
            assert!(parse_certificate(&format!("{BEGIN}\n{cut}\n{END}\n")).is_err(), "{cut}");
        }
        let end = PEM.find(END).unwrap();
        for cut in BEGIN.len() + 1..end {
            let _ = parse_certificate(&format!("{}\n{END}\n", PEM.get(..cut).unwrap()));
        }
        assert_eq!(embedded("users: []"), None);
        assert!(embedded("  client-certificate-data: ####").unwrap().is_err());
    }
}

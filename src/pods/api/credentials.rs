//! Who asks: `--kubeconfig`, `KUBECONFIG`, the pod's service account, else the kubelet.

use super::in_time::{Late, in_time};
use super::{ApiError, ApiOptions};
use crate::pods::hostfs::HostFs;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::time::Instant;

/// Where kubelets keep their credentials: plain and kubeadm's, k3s, k0s, MicroK8s.
const KUBELET: &[&str] = &[
    "/var/lib/kubelet/kubeconfig",
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
];
/// Stands for a proxy while the file is read; nothing is sent there.
const NO_PROXY: &str = "http://none.invalid";
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where to ask, and whose credentials that are.
pub(super) struct Credentials {
    pub(super) config: Config,
    pub(super) name: String,
}

/// What the person named: a file or the environment; `None` when nothing. Whatever is named there (a pipe, a file on a
/// server that is gone) has time until `deadline`.
pub(super) fn named(options: &ApiOptions<'_>, deadline: Instant) -> Result<Option<Credentials>, ApiError> {
    let path = options.kubeconfig.clone();
    in_time(deadline, move || read_named(path.as_deref())).unwrap_or_else(|late| {
        let name = |path: &std::path::PathBuf| format!("--kubeconfig {}", path.display());
        let credentials = options.kubeconfig.as_ref().map_or_else(|| "KUBECONFIG".to_owned(), name);
        Err(match late {
            Late::Late => ApiError::Late {
                what: "the file, or one that it names,".into(),
                timeout: options.deadline,
                credentials,
            },
            Late::Never(why) => ApiError::Unusable(format!("{credentials}: {why}")),
        })
    })
}

fn read_named(path: Option<&Path>) -> Result<Option<Credentials>, ApiError> {
    let (kubeconfig, name) = match path {
        Some(path) => {
            let name = format!("--kubeconfig {}", path.display());
            // The client's own words for a file that is not there quote its path twice.
            std::fs::File::open(path).map_err(|e| ApiError::Unusable(format!("{name}: {e}")))?;
            (Kubeconfig::read_from(path).map(Some), name)
        }
        None => (Kubeconfig::from_env(), "KUBECONFIG".to_owned()),
    };
    let unusable = |why: String| ApiError::Unusable(format!("{name}: {why}"));
    let Some(kubeconfig) = kubeconfig.map_err(|e| unusable(words(&e)))? else { return Ok(None) };
    let config = build(kubeconfig, &name)?;
    Ok(Some(Credentials { config, name }))
}

/// The service account of the pod that nsprobe runs in.
pub(super) fn service_account() -> Option<Result<Credentials, ApiError>> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none()
        || !std::path::Path::new(SERVICE_ACCOUNT).exists()
    {
        return None;
    }
    let name = "this pod's service account".to_owned();
    Some(match Config::incluster() {
        Ok(config) => Ok(Credentials { config, name }),
        Err(e) => Err(ApiError::Unusable(format!("{name}: {}", words(&e)))),
    })
}

/// The kubelet's own. Every file of it is the node's, under the host root, and is read here; nothing is run for it.
pub(super) fn kubelet(fs: &HostFs) -> Option<Result<Credentials, ApiError>> {
    let (path, text) = KUBELET.iter().find_map(|path| Some((path, fs.read_text(path)?)))?;
    let name = format!("the kubelet's {path}");
    let build = || -> Result<Config, ApiError> {
        let unusable = |why: String| ApiError::Unusable(format!("{name}: {why}"));
        let mut kubeconfig = Kubeconfig::from_yaml(&text).map_err(|e| unusable(words(&e)))?;
        take_in(&mut kubeconfig, fs, path).map_err(unusable)?;
        build(kubeconfig, &name)
    };
    Some(build().map(|config| Credentials { config, name: name.clone() }))
}

/// Puts the contents of files into their place.
fn take_in(kubeconfig: &mut Kubeconfig, fs: &HostFs, path: &str) -> Result<(), String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let read = |file: &str| {
        let whole = if file.starts_with('/') { file.to_owned() } else { format!("{folder}/{file}") };
        fs.read(&whole).ok_or_else(|| format!("{whole} cannot be read"))
    };
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        if let Some(file) = cluster.certificate_authority.take() {
            cluster.certificate_authority_data = Some(base64(&read(&file)?));
        }
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|u| u.auth_info.as_mut()) {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("its credentials come from a program, which is not run; give --kubeconfig".into());
        }
        if let Some(file) = user.client_certificate.take() {
            user.client_certificate_data = Some(base64(&read(&file)?));
        }
        if let Some(file) = user.client_key.take() {
            user.client_key_data = Some(base64(&read(&file)?).into());
        }
        if let Some(file) = user.token_file.take() {
            user.token = Some(String::from_utf8_lossy(&read(&file)?).trim().to_owned().into());
        }
    }
    Ok(())
}

/// What a file says. A proxy of the environment is not used: a node reaches its API server directly, and HTTPS_PROXY is
/// there for pulling images.
fn build(mut kubeconfig: Kubeconfig, name: &str) -> Result<Config, ApiError> {
    if let Some(cluster) = proxied(&kubeconfig) {
        return Err(ApiError::Proxied { cluster: cluster.to_owned(), credentials: name.to_owned() });
    }
    // kube looks into the environment only where the file has no proxy.
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        cluster.proxy_url = Some(NO_PROXY.to_owned());
    }
    let unusable = |why: String| ApiError::Unusable(format!("{name}: {why}"));
    let options = KubeConfigOptions::default();
    let tokio = tokio::runtime::Builder::new_current_thread().build().map_err(|e| unusable(e.to_string()))?;
    let mut config = tokio
        .block_on(Config::from_custom_kubeconfig(kubeconfig, &options))
        .map_err(|e| unusable(words(&e)))?;
    config.proxy_url = None;
    if let Some(told) = config.auth_info.exec.as_mut().and_then(|exec| exec.cluster.as_mut()) {
        told.proxy_url = None;
    }
    Ok(config)
}

/// The cluster of the current context, when it is to be reached through a proxy.
fn proxied(kubeconfig: &Kubeconfig) -> Option<&str> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|c| c.name == *current)?.context.as_ref()?;
    let named = kubeconfig.clusters.iter().find(|c| c.name == context.cluster)?;
    let proxy = named.cluster.as_ref()?.proxy_url.as_ref()?;
    (!proxy.is_empty()).then_some(named.name.as_str())
}

/// Without the picture of the place that a parser draws.
fn words(error: &dyn std::error::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(400).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or(0);
            let pad = at > u32::try_from(three.len()).unwrap_or(0);
            text.push(if pad { '=' } else { char::from(DIGITS.get(digit).copied().unwrap_or(b'=')) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{ff}\u{7f}>", "w79/Pg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), text, "{plain}");
        }
    }

    #[test]
    fn the_kubelets_files_are_read_under_the_host_root_and_no_program_is_run() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let fs = HostFs::open(root.path()).unwrap();
        assert!(kubelet(&fs).is_none());
        let file = |user: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: 'http://10.0.0.1:6443'}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nusers: [{{name: u, user: {user}}}]\n"
            )
        };
        put("etc/kubernetes/kubelet.conf", &file("{client-certificate: /pki/c.pem, client-key: /pki/c.pem}"));
        let Some(Err(ApiError::Unusable(why))) = kubelet(&fs) else {
            panic!("a missing file was not noticed")
        };
        assert!(why.ends_with("/pki/c.pem cannot be read"), "{why}");
        put("pki/c.pem", "certificate");
        let found = kubelet(&fs).unwrap().map_err(|e| e.to_string()).unwrap();
        assert_eq!(found.config.auth_info.client_certificate_data.as_deref(), Some("Y2VydGlmaWNhdGU="));
        put(
            "var/lib/kubelet/kubeconfig",
            &file("{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/id}}"),
        );
        let Some(Err(ApiError::Unusable(why))) = kubelet(&fs) else { panic!("a program would be run") };
        assert!(why.contains("which is not run"), "{why}");
    }
}

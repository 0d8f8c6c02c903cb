package eventsplit

import "testing"

const (
	ref      = `"registry.example/team/app:1.2"`
	unpack   = `failed to pull and unpack image ` + ref + `: `
	resolve  = unpack + `failed to resolve reference ` + ref + `: `
	transfer = unpack + `failed to resolve image: `
	layer    = unpack + `failed to copy: httpReadSeeker: failed open: `
	manifest = `initializing source docker://registry.example/team/app:1.2: reading manifest 1.2 in registry.example/team/app: `
	ping     = `initializing source docker://registry.example/team/app:1.2: pinging container registry registry.example: `
	daemon   = `Error response from daemon: `
	address  = `"https://registry.example/v2/team/app/manifests/1.2"`
)

// Who says "not found" or "denied" decides, not the words: the registry's refusal is final, the
// node's own trouble is not.
func TestOnlyTheRegistrysRefusalIsFinal(t *testing.T) {
	for _, c := range []struct {
		words string
		cause Cause
		final bool
	}{
		// containerd: a reference that the registry does not have.
		{resolve + `registry.example/team/app:1.2: not found`, CauseNotFound, true},
		{transfer + `registry.example/team/app:1.2: not found`, CauseNotFound, true},
		{resolve + `registry.example/team/app@sha256:aa: not found`, CauseNotFound, true},
		{`rpc error: code = NotFound desc = registry.example/team/app:1.2: not found`, CauseNotFound, true},
		{unpack + `no match for platform in manifest: not found`, CauseNotFound, true},
		{unpack + `no match for platform in manifest sha256:aa: not found`, CauseNotFound, true},
		{resolve + `pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed`, CauseUnauthorized, true},
		{resolve + `pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials`, CauseUnauthorized, true},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 403 Forbidden`, CauseUnauthorized, true},
		{resolve + "unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 403 Forbidden\ndenied: no such project", CauseUnauthorized, true},
		{resolve + `unexpected status code https://registry.example/v2/team/app/manifests/1.2: 403 Forbidden - Server message: denied: no`, CauseUnauthorized, true},
		{resolve + `failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=x: 401 Unauthorized`, CauseUnauthorized, true},
		{resolve + `failed to authorize: failed to fetch oauth token: unexpected status from POST request to https://auth.example/token: 403 Forbidden`, CauseUnauthorized, true},
		// CRI-O.
		{manifest + `manifest unknown`, CauseNotFound, true},
		{manifest + `name unknown: The repository does not exist`, CauseNotFound, true},
		{manifest + `repository name not known to registry`, CauseNotFound, true},
		{manifest + `StatusCode: 404, "<html><body>no such thing</body>..."`, CauseNotFound, true},
		{manifest + `requested access to the resource is denied`, CauseUnauthorized, true},
		{manifest + `unauthorized: access to the requested resource is not authorized`, CauseUnauthorized, true},
		{manifest + `denied: Permission "downloadArtifacts" denied on resource (or it may not exist)`, CauseUnauthorized, true},
		{manifest + `unknown: artifact team/app:1.2 not found`, CauseNotFound, true},
		{daemon + `unknown: repository team/app not found`, CauseNotFound, true},
		{daemon + `unknown: Not Found`, CauseNotFound, true},
		{manifest + `unknown: Forbidden`, CauseUnauthorized, true},
		{daemon + `unknown: Authentication is required`, CauseUnauthorized, true},
		{manifest + `unknown: Bad credentials`, CauseUnauthorized, true},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 404 Not Found`, CauseNotFound, true},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 401 Unauthorized`, CauseUnauthorized, true},
		{manifest + `authentication required`, CauseUnauthorized, true},
		{`initializing source docker://r.example/x:1: Requesting bearer token: invalid status code from registry 403 (Forbidden)`, CauseUnauthorized, true},
		{`unable to retrieve auth token: invalid username/password: unauthorized: HTTP Basic: Access denied`, CauseUnauthorized, true},
		{`choosing image instance: no image found in manifest list for architecture "arm64", variant "v8", OS "linux"`, CauseNotFound, true},
		{`choosing an image from manifest list docker://r.example/x:1: no image found in image index for architecture "s390x", variant "", OS "linux"`, CauseNotFound, true},
		{`(Mirrors also failed: [mirror.example/x:1: pinging container registry mirror.example: Get "https://mirror.example/v2/": dial tcp 10.0.0.1:443: i/o timeout]): r.example/x:1: reading manifest 1 in r.example/x: manifest unknown`, CauseNotFound, true},
		// cri-dockerd.
		{daemon + `manifest for team/app:1.2 not found: manifest unknown: manifest unknown`, CauseNotFound, true},
		{daemon + `no matching manifest for linux/arm64/v8 in the manifest list entries`, CauseNotFound, true},
		{daemon + `image with reference team/app:1.2 was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)`, CauseNotFound, true},
		{daemon + `pull access denied for team/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`, CauseUnauthorized, true},
		{daemon + `Head ` + address + `: unauthorized: incorrect username or password`, CauseUnauthorized, true},
		{daemon + `Get "https://ghcr.io/v2/team/app/manifests/1.2": denied: denied`, CauseUnauthorized, true},
		{daemon + `cannot download image: image operating system "windows" cannot be used on this platform`, "", true},
		// An answer quoted whole.
		{`unexpected answer: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}`, CauseNotFound, true},
		{`unexpected answer: "{\"errors\":[{\"code\":\"DENIED\"}]}"`, CauseUnauthorized, true},
		{`NAME_UNKNOWN: no such repository`, CauseNotFound, true},
		{`UNAUTHORIZED: who are you`, CauseUnauthorized, true},
		// A name that no registry can be asked for; an image that the node cannot run.
		{`Failed to apply default image tag "Foo": couldn't parse image name "Foo": invalid reference format: repository name (Foo) must be lowercase`, CauseInvalidName, true},
		{`short-name "app" did not resolve to an alias and no unqualified-search registries are defined in "/etc/containers/registries.conf"`, CauseInvalidName, true},
		{`Source image rejected: Running image docker://r.example/x:1 is rejected by policy.`, CauseSignature, true},
		{unpack + `image verifier bindir blocked pull of registry.example/team/app:1.2 with digest sha256:aa for reason: not signed`, CauseSignature, true},
		{unpack + `not implemented: media type "application/vnd.docker.distribution.manifest.v1+prettyjws" is no longer supported since containerd v2.1, please rebuild the image`, "", true},

		// Some registries and clients have words of their own.
		{`unknown: Project 'project:genomics-tools' not found or deleted.`, CauseNotFound, true},
		{resolve + `pulling from host 123.dkr.ecr.eu-west-1.amazonaws.com failed with status code [manifests 1.2]: 403 Forbidden`, CauseUnauthorized, true},
		{resolve + `failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized`, CauseUnauthorized, true},
		{manifest + `unknown: Tag 1.2 was deleted or has expired. To pull, revive via time machine`, CauseNotFound, true},
		{daemon + `unknown: Tag 1.2 was deleted or has expired. To pull, revive via time machine`, CauseNotFound, true},
		{manifest + `unknown: Wrong username was used`, CauseUnauthorized, true},
		{manifest + `unknown: Download request for repo:path 'docker-local:team/app/1.2/manifest.json' is forbidden for user: 'ci'.`, CauseUnauthorized, true},
		{unpack + `failed to unpack image on snapshotter overlayfs: no match for platform in manifest: not found`, CauseNotFound, true},
		{`short-name resolution enforced but cannot prompt without a TTY`, CauseInvalidName, true},
		{`initializing source docker://registry.example/team/app:1.2: registry registry.example is blocked in /etc/containers/registries.conf or /etc/containers/registries.conf.d`, "", true},
		{daemon + `login attempt to https://registry.example/v2/ failed with status: 401 Unauthorized`, CauseUnauthorized, true},
		{manifest + "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n", CauseUnauthorized, true},
		{manifest + `denied: client with IP '10.0.0.1' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.`, CauseUnauthorized, true},
		{manifest + `manifest unknown: OCI index found, but accept header does not support OCI indexes`, CauseNotFound, true},
		{daemon + `manifest unknown: The named manifest is not known to the registry.`, CauseNotFound, true},
		{`image pull failed for registry.example/team/app:1.2 because the signature validation failed: Source image rejected`, CauseSignature, true},

		// These come from the node: its store, disk, snapshotter, configuration, runtime.
		{unpack + `failed to extract layer sha256:aa: failed to get reader from content store: content digest sha256:bb: not found`, "", false},
		{unpack + `unexpected media type text/html for sha256:aa: not found`, "", false},
		{unpack + `failed to unpack image on snapshotter overlayfs: unexpected media type text/html for sha256:aa: not found`, "", false},
		{unpack + `failed to prepare extraction snapshot "extract-1 sha256:aa": parent snapshot sha256:bb does not exist: not found`, "", false},
		{unpack + `failed to prepare extraction snapshot "extract-1 sha256:aa": failed to resolve layer: unexpected status code https://registry.example/v2/team/app/blobs/sha256:aa: 403 Forbidden`, "", false},
		{unpack + `failed to extract layer sha256:aa: mount callback failed: failed to Lchown: operation not permitted: permission denied`, "", false},
		{unpack + `failed to extract layer sha256:aa: unexpected EOF`, "", false},
		{unpack + `manifest sha256:aa: not found`, "", false},
		{unpack + `failed commit on ref "layer-sha256:aa": rename /var/lib/x /var/lib/y: permission denied`, "", false},
		{unpack + `failed to copy: open /var/lib/containerd/ingest/ref: permission denied`, "", false},
		{`failed to create image reference "registry.example/team/app:1.2": image: not found`, "", false},
		{`get image config descriptor: content digest sha256:aa: not found`, "", false},
		{resolve + `no resolve hosts: not found`, "", false},
		{unpack + `failed to extract layer sha256:aa: context canceled: unknown`, "", false},
		{manifest + `unknown: current image with 3 critical vulnerabilities cannot be pulled due to configured policy`, "", false},
		{resolve + `rejecting 99999999 byte manifest for registry.example/team/app:1.2: not found`, "", false},
		{resolve + `failed to load registry config: open /etc/containerd/certs.d/hosts.toml: permission denied`, "", false},
		{`unable to initialize unpacker: snapshotter stargz: not found`, "", false},
		{`Failed to inspect image "": rpc error: code = NotFound desc = image "x": not found`, "", false},
		{`Failed to inspect image "": rpc error: code = DeadlineExceeded desc = context deadline exceeded`, "", false},
		{`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused"`, "", false},
		{`rpc error: code = Unavailable desc = error reading from server: EOF`, "", false},
		{daemon + `failed to register layer: lsetxattr security.capability /x: permission denied`, "", false},
		{daemon + `failed to register layer: mkdir /var/lib/docker/overlay2/aa: file not found`, "", false},
		{`copying system image from manifest list: writing blob: adding layer with blob "sha256:aa"/""/"sha256:bb": unpacking failed (error: exit status 1; output: permission denied)`, "", false},
		{`rpc error: code = NotFound desc = sha256:aa: not found`, "", false},
		{`rpc error: code = PermissionDenied desc = permission denied`, "", false},
		{`access to /dev/fuse is denied`, "", false},
		{unpack + `failed to extract layer sha256:aa: write /var/lib/x: no space left on device`, CauseDiskFull, false},
		{unpack + `failed to copy: write /var/lib/x: disk quota exceeded`, CauseDiskFull, false},
		{unpack + `failed to get stream processor for application/vnd.oci.image.layer.v1.tar+zstd: no processor for media-type: not found`, "", false},
		{`failed to create image reference "registry.example/team/app:1.2": lease does not exist: not found`, "", false},
		{resolve + `error getting credentials - err: exec: "docker-credential-ecr-login": executable file not found in $PATH`, "", false},
		{`copying system image from manifest list: committing the finished image: locating layer for blob "sha256:aa": layer not known`, "", false},
		{`parsing image configuration: fetching blob: received unexpected HTTP status: 403 Forbidden`, "", false},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 412 Precondition Failed`, "", false},
		{unpack + `failed to extract layer sha256:aa: failed to get stream processor for application/vnd.oci.image.layer.v1.tar+gzip: fork/exec /usr/bin/unpigz: no such file or directory`, "", false},
		{unpack + `mismatched image rootfs and manifest layers`, "", false},
		{`Failed to record image pull intent for container image "x": write /var/lib/kubelet/image_manager/pulling: no space left on device`, CauseDiskFull, false},
		// The registry has already delivered the manifest that names this part.
		{layer + `content at https://mirror.example/v2/team/app/blobs/sha256:aa not found: not found`, "", false},
		{layer + `could not fetch content descriptor sha256:aa (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found`, "", false},
		{layer + `unexpected status from GET request to https://cdn.example/sha256/aa?Signature=x: 403 Forbidden`, "", false},
		{`copying system image from manifest list: reading blob sha256:aa: fetching blob: StatusCode: 404, "gone"`, "", false},
		// A refusal in the middle of a pull, or by a mirror, is not the registry's refusal of
		// the image.
		{resolve + `unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 403 Forbidden`, "", false},
		{resolve + "unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 403 Forbidden\ndenied: no", "", false},
		{resolve + `unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 401 Unauthorized`, "", false},
		{layer + `server message: insufficient_scope: authorization failed`, "", false},
		{layer + `server message: invalid_token: authorization failed`, "", false},
		{layer + `unexpected status code https://cdn.example/x: 403 Forbidden - Server message: denied: the link has expired`, "", false},
		{`copying system image from manifest list: reading blob sha256:aa: fetching blob: unauthorized: authentication required`, "", false},
		{daemon + `error pulling image configuration: download failed after attempts=6: denied: requested access to the resource is denied`, "", false},

		// A server of tokens that is not found is not an image that is not found.
		{resolve + `failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.example/token: 404 Not Found`, "", false},

		// There is no answer, or it is not the registry's.
		{resolve + `failed to do request: Head ` + address + `: EOF`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: Forbidden`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: Unauthorized`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: Proxy Authentication Required`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: proxyconnect tcp: dial tcp: lookup proxy.corp.example: no such host`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: context deadline exceeded`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: http2: server sent GOAWAY and closed the connection`, CauseNetwork, false},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 503 Service Temporarily Unavailable`, CauseNetwork, false},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 520 `, CauseNetwork, false},
		{`504 Gateway Timeout`, CauseNetwork, false},
		{`503 Service Temporarily Unavailable`, CauseNetwork, false},
		{`EOF`, CauseNetwork, false},
		{ping + `Get "https://registry.example/v2/": EOF`, CauseNetwork, false},
		{ping + `received unexpected HTTP status: 502 Bad Gateway`, CauseNetwork, false},
		{manifest + `StatusCode: 503, "<html>try again</html>"`, CauseNetwork, false},
		{`Requesting bearer token: invalid status code from registry 500 (Internal Server Error)`, CauseNetwork, false},
		{`image pull failed for registry.example/team/app:1.2 because the registry is unavailable: pinging`, CauseNetwork, false},
		{layer + `stream error: stream ID 1; INTERNAL_ERROR`, CauseNetwork, false},
		{layer + `failed to do request: Get "https://cdn.example/sha256/aa": net/http: timeout awaiting response headers`, CauseNetwork, false},
		{unpack + `failed to copy: local error: tls: bad record MAC`, CauseNetwork, false},
		{unpack + `failed to copy: read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer`, CauseNetwork, false},
		{unpack + `failed to copy: httpReadSeeker: unexpected EOF`, CauseNetwork, false},
		{daemon + `Get "https://registry.example/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`, CauseNetwork, false},
		{daemon + `error parsing HTTP 504 response body: invalid character '<' looking for beginning of value: "<html>"`, CauseNetwork, false},
		{`failed to pull and unpack image "unauthorized/not-found:1": i/o timeout`, CauseNetwork, false},
		{`failed to do request: Head "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`, CauseNetwork, false},
		{`(Mirrors also failed: [mirror.example/x:1: reading manifest 1 in mirror.example/x: manifest unknown]): r.example/x:1: pinging container registry r.example: Get "https://r.example/v2/": dial tcp 10.0.0.1:443: i/o timeout`, CauseNetwork, false},
		{resolve + `failed to do request: Head "https://nosuch.example/v2/x/manifests/1": dial tcp: lookup nosuch.example on 10.0.0.10:53: no such host`, CauseNoSuchHost, false},
		{resolve + `failed to do request: Head ` + address + `: tls: failed to verify certificate: x509: certificate signed by unknown authority`, CauseCertificate, true},
		{resolve + `failed to do request: Head ` + address + `: http: server gave HTTP response to HTTPS client`, CauseCertificate, true},

		{daemon + `error parsing HTTP 408 response body: invalid character '<' looking for beginning of value: "<html>"`, CauseNetwork, false},
		{resolve + `unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 408 `, CauseNetwork, false},

		{resolve + `unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 502 Bad Gateway`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:07Z is before 2026-11-30T00:00:00Z`, CauseCertificate, false},
		{resolve + `failed to do request: Head ` + address + `: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-12-01T00:00:07Z is after 2026-11-30T00:00:00Z`, CauseCertificate, false},
		{resolve + `failed to do request: Head ` + address + `: dial tcp: lookup registry.example on 10.0.0.10:53: server misbehaving`, CauseNoSuchHost, false},
		{resolve + `failed to do request: Head ` + address + `: dial tcp: lookup registry.example: Temporary failure in name resolution`, CauseNoSuchHost, false},
		{resolve + `failed to do request: Head ` + address + `: dial tcp: lookup registry.example on 10.0.0.10:53: read udp 10.0.0.2:1->10.0.0.10:53: i/o timeout`, CauseNetwork, false},
		{`Get "https://registry.example/v2/": net/http: HTTP/1.x transport connection broken: malformed HTTP response "\x15\x03\x01\x00\x02\x02"`, CauseNetwork, false},
		{`copying system image from manifest list: parsing image configuration: Get "https://cdn.example/sha256:aa": dial tcp: lookup cdn.example: no such host`, CauseNoSuchHost, false},
		{resolve + `failed to authorize: failed to fetch oauth token: Post "https://auth.docker.io/token": dial tcp 10.0.0.1:443: connect: connection timed out`, CauseNetwork, false},
		{resolve + `failed to do request: Head ` + address + `: remote error: tls: handshake failure`, CauseNetwork, false},
		{ping + `received unexpected HTTP status: 521 <none>`, CauseNetwork, false},

		// Limits count in whatever words they are wrapped.
		{daemon + `error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: "<html>"`, CauseRateLimited, false},
		{manifest + `StatusCode: 429, "<html>slow down</html>"`, CauseRateLimited, false},
		{`pull QPS exceeded`, CauseThrottled, false},
		{`toomanyrequests: You have reached your unauthenticated pull rate limit.`, CauseRateLimited, false},
		{layer + `unexpected status from GET request to https://registry.example/v2/x/manifests/sha256:aa: 429 Too Many Requests`, CauseRateLimited, false},
		{manifest + `too many requests to registry`, CauseRateLimited, false},
		{resolve + `pull access denied, repository does not exist or may require authorization: server message: toomanyrequests: slow down: authorization failed`, CauseRateLimited, false},

		{resolve + `unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 429 Too Many Requests`, CauseRateLimited, false},
		{`toomanyrequests: Quota exceeded for quota metric 'Requests per project per region' and limit 'Requests per project per region per minute'`, CauseRateLimited, false},
		{manifest + `denied: Quota exceeded for quota metric 'Requests per project per region'`, CauseRateLimited, false},
		{`toomanyrequests: Rate exceeded`, CauseRateLimited, false},
		{daemon + `toomanyrequests: retry-after: 985.86µs, allowed: 44000/minute`, CauseRateLimited, false},

		// Words within names do not count.
		{`failed to pull and unpack image "r.example/denied:unauthorized": something odd`, "", false},
		{`failed to resolve reference "r.example/x:1": failed to do request: Head "https://r.example/v2/manifest unknown/denied: den`, CauseNetwork, false},
		{`something else`, "", false},
	} {
		cause, mayRecover := classifyPull(c.words)
		if cause != c.cause || mayRecover == c.final {
			t.Errorf("%s\n\tgot %q, may recover %v; want %q, final %v", c.words, cause, mayRecover, c.cause, c.final)
		}
	}
}

// The kubelet tries every pull secret that matches and joins the errors. The image may be pulled
// as long as one of them may pull it.
func TestAPullMayRecoverIfOneOfItsCredentialsMay(t *testing.T) {
	const (
		denied  = `rpc error: code = Unknown desc = ` + resolve + `pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed`
		missing = `rpc error: code = NotFound desc = ` + resolve + `registry.example/team/app:1.2: not found`
		timeout = `rpc error: code = DeadlineExceeded desc = ` + resolve + `failed to do request: Head ` + address + `: dial tcp 10.0.0.1:443: i/o timeout`
		odd     = unpack + `failed to extract layer sha256:aa: content digest sha256:bb: not found`
		limited = resolve + `unexpected status from HEAD request to https://registry.example/v2/: 429 Too Many Requests`
		arch    = `choosing image instance: no image found in manifest list for architecture "arm64", variant "v8", OS "linux"`
	)
	for _, c := range []struct {
		words string
		cause Cause
		final bool
	}{
		{`[` + denied + `, ` + timeout + `]`, CauseNetwork, false},
		{`[` + timeout + `, ` + denied + `]`, CauseNetwork, false},
		{`[` + missing + `, ` + timeout + `]`, CauseNetwork, false},
		{`[` + denied + `, ` + odd + `]`, "", false},
		{`[` + odd + `, ` + denied + `, ` + limited + `]`, CauseRateLimited, false},
		{`[` + denied + `, something new]`, "", false},
		{`[` + denied + `, ` + manifest + `unauthorized: no]`, CauseUnauthorized, true},
		{`[` + denied + `, ` + missing + `]`, CauseUnauthorized, true},
		{`[` + missing + `, ` + denied + `]`, CauseUnauthorized, true},
		{`[` + missing + `, ` + arch + `]`, CauseNotFound, true},
		{`[` + arch + `, ` + missing + `]`, CauseNotFound, true},
		{denied, CauseUnauthorized, true},
	} {
		for _, prefix := range []string{"", `Failed to pull image "registry.example/team/app:1.2": `, `Back-off pulling image "registry.example/team/app:1.2": ErrImagePull: `} {
			cause, mayRecover := classifyPull(pullWords(prefix + c.words))
			if cause != c.cause || mayRecover == c.final {
				t.Errorf("%s\n\tgot %q, may recover %v; want %q, final %v", prefix+c.words, cause, mayRecover, c.cause, c.final)
			}
		}
	}
}

func TestErrorsOfSeveralCredentialsAreSplit(t *testing.T) {
	for _, c := range []struct {
		words string
		want  int
	}{
		{`[rpc error: code = NotFound desc = a "b, rpc error: code = NotFound desc = c]`, 2},
		{`[StatusCode: 404, "<html>it's {", rpc error: code = NotFound desc = unexpected digest a, expected b]`, 2},
		{`[{"errors":[{"code":"DENIED","message":"a, b"}]}, EOF, (x]`, 3},
		{`[invalid character '"' looking for x, rpc error: code = NotFound desc = EOF]`, 2},
		{`[pull access denied, repository does not exist or may require authorization, EOF]`, 2},
		{`[is no longer supported since containerd v2.1, please rebuild the image]`, 1},
		{`rpc error: code = Unknown desc = one, two`, 1},
	} {
		if got := pullErrors(c.words); len(got) != c.want {
			t.Errorf("%s: %d errors, want %d: %q", c.words, len(got), c.want, got)
		}
	}
}

func TestSeveralPullErrorsAreJoinedWithoutTheirPrefixes(t *testing.T) {
	f := classifyWaiting(reasonErrImagePull, `[rpc error: code = Unknown desc = `+unpack+`first, rpc error: code = Unknown desc = `+unpack+`second]`)
	if got, want := f.words(), "first; second"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// sandboxImage is what containerd runs for the pod itself. It is not PauseImage,
// so that an image garbage-collected or retagged in a test is not a sandbox's.
const sandboxImage = "podlife.test/sandbox:1"

// image is a container image of one layer.
type image struct {
	tags       []string
	files      []tar.Header // Typeflag, Name, Mode, Linkname; a regular file's content is in contents
	contents   map[string][]byte
	entrypoint []string
	comment    string // tells images apart that are otherwise equal
}

// images returns all the images of a cluster.
func images(ctx context.Context, programs string) ([]image, error) {
	shell, err := busybox(ctx)
	if err != nil {
		return nil, err
	}
	all := []image{shell}
	for _, o := range []struct {
		program, comment string
		tags             []string
	}{
		{"pause", "sandbox", []string{sandboxImage}},
		{"pause", "placeholder", []string{PauseImage, PauseImageRetagged}},
		{"print", "", []string{PrintImage}},
	} {
		text, err := os.ReadFile(filepath.Join(programs, o.program))
		if err != nil {
			return nil, err
		}
		all = append(all, image{
			tags: o.tags, comment: o.comment, entrypoint: []string{"/" + o.program},
			files:    []tar.Header{{Typeflag: tar.TypeReg, Name: o.program, Mode: 0o755}},
			contents: map[string][]byte{o.program: text},
		})
	}
	return all, nil
}

// busybox makes an image of the machine's static busybox, with a link for each
// of its tools.
func busybox(ctx context.Context) (image, error) {
	path, err := findProgram("busybox")
	if err != nil {
		return image{}, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return image{}, err
	}
	tools, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return image{}, fmt.Errorf("cluster: %s --list: %w", path, err)
	}
	files := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755},
	}
	for tool := range strings.FieldsSeq(string(tools)) {
		if tool != "busybox" {
			files = append(files, tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + tool, Linkname: "busybox", Mode: 0o777})
		}
	}
	return image{tags: []string{BusyboxImage}, files: files, contents: map[string][]byte{"bin/busybox": program}}, nil
}

// loadImages gives the images to the cluster's containerd.
func (c *Cluster) loadImages(ctx context.Context) error {
	all, err := images(ctx, c.state.Programs)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := writeArchive(&archive, all); err != nil {
		return err
	}
	return c.ctr(ctx, &archive, "images", "import", "--snapshotter", c.snapshotter(), "-")
}

// writeArchive writes images in the format of "docker save".
func writeArchive(w io.Writer, all []image) error {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var (
		manifest []entry
		archive  = tar.NewWriter(w)
		add      = func(name string, content []byte) error {
			return writeFile(archive, tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content)
		}
	)
	for _, img := range all {
		layer, err := img.layer()
		if err != nil {
			return err
		}
		config, err := img.config(layer)
		if err != nil {
			return err
		}
		e := entry{Config: digest(config) + ".json", RepoTags: img.tags, Layers: []string{digest(config) + "/layer.tar"}}
		if err := add(e.Config, config); err != nil {
			return err
		}
		if err := add(e.Layers[0], layer); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := add("manifest.json", text); err != nil {
		return err
	}
	return archive.Close()
}

func (i image) layer() ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, header := range i.files {
		if err := writeFile(w, header, i.contents[header.Name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return layer.Bytes(), err
}

func writeFile(w *tar.Writer, header tar.Header, content []byte) error {
	header.Size = int64(len(content))
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// config returns the image's configuration, whose digest is the image ID.
func (i image) config(layer []byte) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"comment":      i.comment,
		"config":       map[string]any{"Env": []string{"PATH=/bin"}, "Entrypoint": i.entrypoint},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

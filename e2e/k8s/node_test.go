//go:build k8s

package k8s

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A node is lost, as far as one that comes back can be: its kubelet and every process of a pod are killed at once, the
// pod is taken out of the API by force, and the StatefulSet's next pod has the same volumes, one with the application's
// log and one with the sidecar's state. Nothing that is on them is lost, what no sink had taken included.
// The kernel and its page cache live on; what a loss of power does to files is for make crash.
func TestClusterNodeIsLost(t *testing.T) {
	c := startCluster(t)
	collector := func(replicas string) {
		t.Helper()
		kubectl(t, "", "-n", "millrace", "scale", "statefulset/millrace-collector", "--replicas="+replicas)
		kubectl(t, "", "-n", "millrace", "rollout", "status", "statefulset/millrace-collector", "--timeout=180s")
	}
	kubelet := func(do string) {
		t.Helper()
		if out, err := exec.Command("./kubelet.sh", do).CombinedOutput(); err != nil {
			t.Fatalf("kubelet.sh %s: %v %s", do, err, out)
		}
	}
	ship := apps{"ship-"}
	kubectl(t, read(t, "testdata/ship.yaml"), "apply", "--validate=strict", "-f", "-")
	c.rolledOut("statefulset/ship")
	collector("0")
	kubectl(t, "", "-n", "millrace", "wait", "--for=delete", "pod/millrace-collector-0", "--timeout=180s")
	_, _, lines := c.ledger.count(ship)
	eventually(t, "lines wait on the volume", func() bool { _, _, n := c.ledger.count(ship); return n > lines+300 })

	kubelet("kill")
	defer kubelet("start") // what runs stays
	uid := kubectl(t, "", "-n", "shop", "get", "pod", "ship-0", "-o", "jsonpath={.metadata.uid}")
	killed := killPod(t, uid)
	kubectl(t, "", "-n", "shop", "delete", "pod", "ship-0", "--force", "--grace-period=0")
	begun, ended, lines := c.ledger.count(ship)
	t.Logf("%d processes of the pod killed after line %d", killed, lines)
	if begun != 1 || killed < 3 { // pause, application, sidecar
		t.Errorf("%d begun, %d ended, %d processes killed", begun, ended, killed)
	}
	kubelet("start")
	collector("1")
	c.rolledOut("statefulset/ship")
	eventually(t, "the next pod writes", func() bool { begun, _, n := c.ledger.count(ship); return begun == 2 && n > lines+100 })
	kubectl(t, "", "-n", "shop", "delete", "statefulset", "ship")
	kubectl(t, "", "-n", "shop", "wait", "--for=delete", "pod", "-l", "app=ship", "--timeout=180s")
	if double := c.complete(ship); double > 100 { // the sink's batch that was under way
		t.Errorf("%d were delivered more than once", double)
	}
}

// killPod kills every process in the cgroup of a pod, which is all that there is of it.
func killPod(t *testing.T, uid string) (n int) {
	t.Helper()
	lists, err := filepath.Glob("/sys/fs/cgroup/memory/kubepods/*/pod" + uid + "/*/cgroup.procs")
	must(t, err)
	for _, list := range lists {
		for _, pid := range strings.Fields(read(t, list)) {
			id, err := strconv.Atoi(pid)
			must(t, err)
			process, err := os.FindProcess(id)
			must(t, err)
			if process.Signal(syscall.SIGKILL) == nil {
				n++
			}
		}
	}
	return n
}

package main

import (
	"fmt"
	"os"
	"time"
)

const some, many = 1_000, 20_000 // lines

var histories = []history{
	{"growing file", func(p *play) error { return p.write("app.log", many) }},
	{"killed while reading", func(p *play) error {
		for range 5 {
			before := p.written
			err := steps(func() error { return p.write("app.log", many) }, func() error { return p.begun(before) }, p.kill)
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"rename and create", func(p *play) error {
		return p.rotate(5, func(i int) error { return p.rename("app.log", fmt.Sprint("app.log.", i)) })
	}},
	{"rename and create, killed each time", func(p *play) error {
		return p.rotate(5, func(i int) error {
			return steps(func() error { return p.rename("app.log", fmt.Sprint("app.log.", i)) }, p.kill)
		})
	}},
	{"rename, the writer goes on in the old file", func(p *play) error {
		return steps(
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return p.rename("app.log", "app.log.1") },
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return p.write("app.log.1", 10) }, // as one that was not told yet
			func() error { return p.write("app.log", some) },
		)
	}},
	{"copytruncate, all read before", func(p *play) error {
		return p.rotate(5, func(i int) error {
			return steps(p.settle, func() error { return p.copyTruncate("app.log", fmt.Sprint("app.log.", i)) })
		})
	}},
	{"copytruncate over the last copy", func(p *play) error {
		return p.rotate(5, func(int) error {
			return steps(p.settle, func() error { return p.copyTruncate("app.log", "app.log.1") })
		})
	}},
	{"copytruncate, behind", func(p *play) error {
		return p.rotate(5, func(i int) error { return p.copyTruncate("app.log", fmt.Sprint("app.log.", i)) })
	}},
	{"three rotations while stopped", func(p *play) error {
		return p.whileStopped(func() error {
			for i := range 3 {
				if err := steps(
					func() error { return p.rename("app.log", fmt.Sprintf("app-%d.log", i)) },
					func() error { return p.write("app.log", some) },
				); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"rotation chain, compressed when read", func(p *play) error {
		return steps(
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return p.rename("app.log", "app.1.log") },
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return p.compress("app.1.log") },
			func() error { return p.rename("app.log", "app.1.log") },
			func() error { return p.write("app.log", some) },
		)
	}},
	{"rename inside the pattern", func(p *play) error {
		return steps(
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return p.rename("app.log", "app-old.log") },
			func() error { return p.write("app.log", some) },
		)
	}},
	{"deleted and made anew", func(p *play) error {
		return steps(
			func() error { return p.write("app.log", some) }, p.settle,
			func() error { return os.Remove(p.path("app.log")) },
			func() error { return p.write("app.log", 2*some) },
		)
	}},
	{"deleted and made anew while stopped", func(p *play) error {
		return p.whileStopped(func() error {
			return steps(
				func() error { return os.Remove(p.path("app.log")) }, // its inode is free to be used again
				func() error { return p.write("app.log", 2*some) },
			)
		})
	}},
	{"truncated and grown past the position", func(p *play) error {
		return p.whileStopped(func() error {
			return steps(
				func() error { return os.Truncate(p.path("app.log"), 0) },
				func() error { return p.write("app.log", 3*some) },
			)
		})
	}},
	{"symbolic link switched", func(p *play) error {
		return steps(
			func() error { return p.write("one.target", some) },
			func() error { return os.Symlink("one.target", p.path("app.log")) }, p.settle,
			func() error { return p.write("one.target", 10) },
			func() error { return p.write("two.target", some) },
			func() error { return os.Symlink("two.target", p.path("next")) },
			func() error { return p.rename("next", "app.log") },
		)
	}},
	{"line written in two parts across a rotation", func(p *play) error {
		if err := steps(func() error { return p.write("app.log", some) }, p.settle); err != nil {
			return err
		}
		line := p.text(1, false)
		return steps(
			func() error { return p.append("app.log", line[:20]) },
			func() error { return p.rename("app.log", "app.log.1") },
			func() error { return p.append("app.log.1", line[20:]) },
			func() error { return p.write("app.log", some) },
		)
	}},
	{"no newline at the end", func(p *play) error {
		return p.append("app.log", p.text(some, true))
	}},
}

// begun waits until one of the lines from number n on has arrived, or nothing more does.
func (p *play) begun(n int) error {
	give := time.Now().Add(2 * quiet)
	return p.proc.until(time.Minute, func() bool {
		seen, _, err := p.seen()
		return err == nil && seen > n || time.Now().After(give)
	})
}

// rotate writes some lines, rotates when the first of them was read, and so on.
func (p *play) rotate(times int, rotate func(i int) error) error {
	for i := range times {
		before := p.written
		err := steps(
			func() error { return p.write("app.log", some) },
			func() error { return p.begun(before) },
			func() error { return rotate(i + 1) },
		)
		if err != nil {
			return err
		}
	}
	return p.write("app.log", some)
}

// whileStopped has some lines read, stops the program, and starts it again after do.
func (p *play) whileStopped(do func() error) error {
	return steps(func() error { return p.write("app.log", some) }, p.settle, p.stop, do, p.start)
}

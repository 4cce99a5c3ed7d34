// Prints what Hadoop itself reads in files of HDFS, for the default file system of its configuration.
//
//	HadoopText DIRECTORY...
//
// that is, in all that are below. Each file begins with an empty line and "== PATH LENGTH OWNER". Of a SequenceFile follows "classes KEY VALUE CODEC", then key, tab, value for each record, by
// SequenceFile.Reader, which reads it record by record and, if it is not compressed, again in parts, from sync markers on; of any other what `hdfs dfs -text` shows.
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.FsShell;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.io.BytesWritable;
import org.apache.hadoop.io.SequenceFile;
import org.apache.hadoop.io.Writable;
import org.apache.hadoop.util.ReflectionUtils;

public class HadoopText {
  static final int SPLIT = 20; // files that are read in parts too
  static int sequences;

  public static void main(String[] args) throws Exception {
    Configuration conf = new Configuration();
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(out);
    FileSystem fs = FileSystem.get(conf);
    for (String dir : args) {
      List<FileStatus> files = new ArrayList<>();
      for (RemoteIterator<LocatedFileStatus> i = fs.listFiles(new Path(dir), true); i.hasNext(); ) {
        files.add(i.next());
      }
      files.sort(Comparator.comparing(f -> f.getPath().toString()));
      for (FileStatus f : files) {
        out.println(); // a text may lack its last newline
        out.println("== " + f.getPath().toUri().getPath() + " " + f.getLen() + " " + f.getOwner());
        if (isSequence(fs, f)) {
          sequence(conf, f, out);
        } else {
          FsShell shell = new FsShell(conf);
          if (shell.run(new String[] {"-text", f.getPath().toString()}) != 0) {
            System.exit(1);
          }
        }
      }
    }
    out.flush();
    if (out.checkError()) {
      System.exit(1);
    }
  }

  static boolean isSequence(FileSystem fs, FileStatus f) throws Exception {
    byte[] head = new byte[3];
    try (FSDataInputStream in = fs.open(f.getPath())) {
      return f.getLen() > 3 && in.read(head) == 3 && new String(head, StandardCharsets.UTF_8).equals("SEQ");
    }
  }

  // withoutZstd is f, or a copy whose header names another class: Hadoop's own codec for zstd is in its native libraries only, which no registry has.
  static Path withoutZstd(Configuration conf, FileStatus f) throws Exception {
    String theirs = "org.apache.hadoop.io.compress.ZStandardCodec";
    String inJava = "io.airlift.compress.zstd.ZstdCodec";
    byte[] all;
    try (FSDataInputStream in = f.getPath().getFileSystem(conf).open(f.getPath())) {
      all = in.readNBytes((int) f.getLen());
    }
    int at = new String(all, StandardCharsets.ISO_8859_1).indexOf(theirs);
    if (at < 0 || at > 200) {
      return f.getPath();
    }
    java.nio.file.Path copy = java.nio.file.Files.createTempFile("zstd", ".seq");
    copy.toFile().deleteOnExit();
    try (java.io.OutputStream to = java.nio.file.Files.newOutputStream(copy)) {
      to.write(all, 0, at - 1); // before the length of the name
      to.write(inJava.length());
      to.write(inJava.getBytes(StandardCharsets.ISO_8859_1));
      to.write(all, at + theirs.length(), all.length - at - theirs.length());
    }
    return new Path(copy.toUri());
  }

  static void sequence(Configuration conf, FileStatus f, PrintStream out) throws Exception {
    int records = 0;
    boolean plain;
    try (SequenceFile.Reader r = new SequenceFile.Reader(conf, SequenceFile.Reader.file(withoutZstd(conf, f)))) {
      plain = r.getCompressionCodec() == null;
      String codec = r.getCompressionCodec() == null ? "none" : r.getCompressionType() + ":" + r.getCompressionCodec().getClass().getSimpleName();
      out.println("classes " + r.getKeyClassName() + " " + r.getValueClassName() + " " + codec);
      Writable key = (Writable) ReflectionUtils.newInstance(r.getKeyClass(), conf);
      Writable value = (Writable) ReflectionUtils.newInstance(r.getValueClass(), conf);
      for (; r.next(key, value); records++) {
        String text = value instanceof BytesWritable b ? new String(b.getBytes(), 0, b.getLength(), StandardCharsets.UTF_8) : value.toString();
        out.println(key + "\t" + text);
      }
    }
    if (!plain || ++sequences > SPLIT) {
      return;
    }
    // A job of MapReduce reads such a file in parts, each from the first marker in it on.
    int split = 0;
    long part = f.getLen() / 3 + 1;
    for (long from = 0; from < f.getLen(); from += part) {
      long end = Math.min(from + part, f.getLen());
      try (SequenceFile.Reader r = new SequenceFile.Reader(conf, SequenceFile.Reader.file(f.getPath()))) {
        if (from > r.getPosition()) {
          r.sync(from);
        }
        Writable key = (Writable) ReflectionUtils.newInstance(r.getKeyClass(), conf);
        boolean more = r.getPosition() < end;
        while (more) {
          long at = r.getPosition();
          more = r.next(key) && !(at >= end && r.syncSeen());
          if (more) {
            split++;
          }
        }
      }
    }
    if (split != records) {
      System.err.println(f.getPath() + ": " + records + " records, " + split + " when read in parts");
      System.exit(1);
    }
  }
}

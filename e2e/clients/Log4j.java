// Logs the lines of a file through Log4j 2 and its Flume appender, as a program does that minds its log: a line whose
// logging throws is logged again, and with it those that the appender may have lost at the same time.
//
//	Log4j CONFIGURATION FILE BATCH
//
// CONFIGURATION is Log4j's, BATCH the batchSize in it. Prints "sent N" now and then, and at the end "done N retries R".
// Then it waits until its input ends: an appender that stores may have something to send.
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.LoggingException;
import org.apache.logging.log4j.Logger;
import org.apache.logging.log4j.ThreadContext;

public class Log4j {
  public static void main(String[] args) throws Exception {
    System.setProperty("log4j2.configurationFile", Path.of(args[0]).toUri().toString());
    Logger log = LogManager.getLogger("app");
    ThreadContext.put("requestId", "r-1");
    List<String> lines = Files.readAllLines(Path.of(args[1]), StandardCharsets.UTF_8);
    int batch = Integer.parseInt(args[2]);
    int retries = 0;
    for (int i = 0; i < lines.size(); ) {
      try {
        log.info(lines.get(i));
        i++;
        if (i % 100 == 0) {
          System.out.println("sent " + i);
        }
        if (i % 10 == 0) {
          Thread.sleep(1);
        }
      } catch (LoggingException e) {
        retries++;
        i = Math.max(0, i - batch + 1);
        Thread.sleep(200);
      }
    }
    System.out.println("done " + lines.size() + " retries " + retries);
    System.in.read();
    LogManager.shutdown();
    System.exit(0); // threads of the client may be left
  }
}

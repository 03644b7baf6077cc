// Writes log lines to standard error: time, level, name of this copy, text. The resource manager reads them by line.

package katamari.chassis;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;

/** The log of a chassis. Any thread may write to it. */
public final class Log {
  private static volatile String resource = "chassis";

  private Log() {}

  public static void info(String text) {
    write("info", text);
  }

  public static void warning(String text) {
    write("warning", text);
  }

  /** Writes the text, then the stack of the error. */
  public static void error(String text, Throwable error) {
    StringWriter stack = new StringWriter();
    error.printStackTrace(new PrintWriter(stack));
    write("error", text + ": " + stack.toString().strip());
  }

  private static void write(String level, String text) {
    Instant now = Instant.now().truncatedTo(ChronoUnit.MILLIS);
    // One write, so that lines of several threads do not mix.
    System.err.print(now + " " + level + " " + resource + ": " + text + "\n");
    System.err.flush();
  }

  /** Makes standard output and standard error UTF-8, flushed after each line, whatever the locale is. */
  static void setUp(String name) {
    resource = name;
    System.setOut(utf8(FileDescriptor.out));
    System.setErr(utf8(FileDescriptor.err));
  }

  private static PrintStream utf8(FileDescriptor stream) {
    return new PrintStream(new FileOutputStream(stream), true, StandardCharsets.UTF_8);
  }
}

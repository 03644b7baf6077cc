// Options of a chassis.

package katamari.chassis;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** Options of a chassis: `new Options("shop.thrift", "1.0.0").concurrency(4)`. */
public final class Options {
  final String idl;
  final String version;
  String service = "";
  int concurrency = 1;
  List<String> tags = List.of();
  List<String> roles = List.of();
  Map<String, String> more = Map.of();
  List<Path> includes = List.of();
  Content<?> content;

  /**
   * @param idl the IDL file; its includes are read too. A relative path is looked up from the working directory, then
   *     beside the jar or folder of the main class
   * @param version SemVer, such as `1.2.0`. Copies with the same version must have the same interface
   */
  public Options(String idl, String version) {
    this.idl = idl;
    this.version = version;
  }

  /** Name of the service in the IDL; by default that of the generated class. */
  public Options service(String name) {
    service = name;
    return this;
  }

  /**
   * Number of calls that the process handles at a time, in that many threads. With 1, the default, every handler runs
   * in the thread that called `serve`. The variable KATAMARI_CONCURRENCY takes precedence.
   */
  public Options concurrency(int calls) {
    concurrency = calls;
    return this;
  }

  /** Calls can prefer pools with these tags. */
  public Options tags(String... values) {
    tags = List.of(values);
    return this;
  }

  /** Only calls that ask for exactly these roles reach this chassis. */
  public Options roles(String... values) {
    roles = List.of(values);
    return this;
  }

  /** Other details that calls can ask for. */
  public Options more(Map<String, String> details) {
    more = Map.copyOf(details);
    return this;
  }

  /** Folders for files that the IDL file includes and that are not beside the including file. */
  public Options includes(Path... folders) {
    includes = List.of(folders);
    return this;
  }

  /** Makes the chassis a content server: the mesh has it open shards of indices. */
  public Options content(Content<?> shards) {
    content = shards;
    return this;
  }
}

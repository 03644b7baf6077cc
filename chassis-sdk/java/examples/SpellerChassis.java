// Corrects the spelling of one word.

import katamari.chassis.Chassis;
import katamari.chassis.Options;
import speller.Speller;

public class SpellerChassis implements Speller.Iface {
  @Override
  public String correct(String words) {
    return words.replaceAll("\\bteh\\b", "the");
  }

  public static void main(String[] args) throws Exception {
    Chassis.serve(new SpellerChassis(), Speller.Processor::new, new Options("speller.thrift", "1.0.0"));
  }
}

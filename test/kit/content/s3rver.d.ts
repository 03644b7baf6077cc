// Types of the S3 server of the tests, as far as they use it.
declare module '@20minutes/s3rver' {
  export default class S3rver {
    constructor(options: {
      readonly port: number;
      readonly address: string;
      readonly silent: boolean;
      readonly directory: string;
    });
    run(): Promise<{ readonly port: number }>;
    close(): Promise<void>;
  }
}

public class Client {}
